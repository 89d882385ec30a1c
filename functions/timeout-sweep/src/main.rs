//! The function `timeout-sweep` on its own.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    relaytrace::runtime::run_scheduled(timeout_sweep::router(), timeout_sweep::run_once).await
}
