//! The function `replay` on its own.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run(replay::router())
}
