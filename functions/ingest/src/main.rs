//! The function `ingest` on its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    relaytrace::runtime::run(ingest::router()).await
}
