//! The function `notify` on its own.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run_working(notify::router(), notify::run_once, notify::work)
}
