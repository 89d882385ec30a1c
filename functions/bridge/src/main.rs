//! The function `bridge` on its own.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run(bridge::router())
}
