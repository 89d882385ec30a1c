//! The function `ingest` on its own.

fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(ingest::router())
}
