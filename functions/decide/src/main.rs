//! The function `decide` on its own.

fn main() -> std::process::ExitCode {
    relaytrace::runtime::run(decide::router())
}
