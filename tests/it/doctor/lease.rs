//! Whether there is a place for a lease, and who holds it.

use houston::doctor::Level;

use super::{Clinic, find, is};
use crate::support::house;

#[tokio::test(flavor = "multi_thread")]
async fn a_place_for_the_lease_and_its_absence_are_told() {
    let clinic = Clinic::open().await;
    clinic.more("lease: {duration: 20s}\n");
    let found = clinic.findings().await;
    let only_one = "see to it that only one is ever started";
    Clinic::only(&found, Level::Warning, "lease", "no environment has a Swarm that could keep one", only_one);
    clinic.more("lease: {enabled: false}\n");
    assert_eq!(clinic.findings().await, []);
    clinic.more("lease: {enabled: true}\n");
    let found = clinic.findings().await;
    is(
        &found[0],
        Level::Problem,
        "configuration",
        "no environment has a Swarm that could keep",
        "under `swarm`",
    );
    clinic.more("lease: {environment: prod}\n");
    let found = clinic.findings().await;
    is(&found[0], Level::Problem, "configuration", "`prod` is not an environment", "`houston check`");

    let t = house::House::start().await;
    let socket = t.state().with_file_name("docker.sock");
    clinic.file("environments/prod.yaml", &format!("swarm: {{socket: {}}}\n", socket.display()));
    clinic.more("lease: {environment: prod}\n");
    let checks = clinic.examine().await;
    let lease = find(&checks, "lease");
    assert!(lease.result == Level::Ok && lease.message.ends_with("for 30 s; nobody holds it"), "{lease:?}");
    assert!(
        lease.message.starts_with("the Swarm of `prod` keeps it, as config `houston-lease-"),
        "{lease:?}"
    );
    t.end().await;
    let found = clinic.findings().await;
    let lease = find(&found, "lease");
    is(
        lease,
        Level::Problem,
        "lease",
        "cannot be asked, so that Houston begins nothing",
        "mend what is said of Docker",
    );
}
