//! The function `decide` on its own.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(decide::router()).await
}
