//! The command `migrate`: brings a deployment's database up to date.

fn main() -> std::process::ExitCode {
    relaytrace::runtime::run_migrations()
}
