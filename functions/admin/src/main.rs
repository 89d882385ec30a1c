//! The function `admin` on its own.

fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(admin::router())
}
