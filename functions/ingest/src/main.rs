//! The function `ingest` on its own.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run(ingest::router())
}
