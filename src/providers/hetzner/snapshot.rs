//! Snapshots of servers: made, found by their labels, removed.
//!
//! Must not: touch an image that is no snapshot.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::client::Call;
use super::{Action, Hetzner, HetznerError, Image, Server};

const SNAPSHOT: &str = "snapshot";

impl Hetzner {
    /// Those with these labels, newest first, also such as are not ready yet.
    pub async fn snapshots(&self, selector: &str) -> Result<Vec<Image>, HetznerError> {
        let call = Call::get("listing snapshots", "/images").query("type", SNAPSHOT);
        let mut found: Vec<Image> =
            self.client.list(call.query("label_selector", selector), "images").await?;
        found.retain(|image| image.kind == SNAPSHOT);
        found.sort_by_key(|image| std::cmp::Reverse((image.created, image.id)));
        Ok(found)
    }

    /// Of a server's disk, as it is now.
    pub async fn snapshot(
        &self,
        server: &Server,
        description: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(Image, Action), HetznerError> {
        let what = format!("making a snapshot of `{}`", server.name);
        let body = json!({ "type": SNAPSHOT, "description": description, "labels": labels });
        let call = Call::post(what, format!("/servers/{}/actions/create_image", server.id), body);
        let answer = self.client.send(&call).await?;
        Ok((call.read(&answer, "image")?, call.read(&answer, "action")?))
    }

    /// What is under way for it.
    pub async fn under_way_at(&self, image: &Image) -> Result<Vec<Action>, HetznerError> {
        let what = format!("looking what is under way at image {}", image.id);
        let call = Call::get(what, format!("/images/{}/actions", image.id)).query("status", "running");
        self.client.list(call, "actions").await
    }

    /// One that is gone already is no error.
    pub async fn remove_snapshot(&self, id: i64) -> Result<(), HetznerError> {
        let call = Call::delete(format!("removing the snapshot {id}"), format!("/images/{id}"));
        super::unless_gone(self.client.send(&call).await).map(|_: Option<Json>| ())
    }
}
