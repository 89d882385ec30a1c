//! The function `decide` on its own.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run(decide::router())
}
