//! The function `replay` on its own.

fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(replay::router())
}
