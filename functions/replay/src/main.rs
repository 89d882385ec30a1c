//! The function `replay` on its own.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(replay::router()).await
}
