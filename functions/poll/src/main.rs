//! The function `poll` on its own.

fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(poll::router())
}
