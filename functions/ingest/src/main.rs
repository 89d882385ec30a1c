//! The function `ingest` on its own.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(ingest::router()).await
}
