//! The function `poll` on its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    relaytrace::runtime::run(poll::router()).await
}
