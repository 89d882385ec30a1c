//! The function `decide` on its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    relaytrace::runtime::run(decide::router()).await
}
