//! The function `timeout-sweep` on its own.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run_scheduled(timeout_sweep::router(), timeout_sweep::run_once)
}
