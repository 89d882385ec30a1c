//! The function `admin` on its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    relaytrace::runtime::run(admin::router()).await
}
