//! The function `admin` on its own.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(admin::router()).await
}
