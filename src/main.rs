//! The `houston` program; all of it is in the library.

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("sandbox-task") {
        return houston::sandbox::engine::task::main(args.collect());
    }
    std::process::ExitCode::FAILURE
}
