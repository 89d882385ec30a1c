//! The function `admin` on its own.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run(admin::router())
}
