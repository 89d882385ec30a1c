//! The function `poll` on its own.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run(poll::router())
}
