//! The command `migrate`: brings a deployment's database up to date.

fn main() -> std::process::ExitCode {
    relaytrace_service::runtime::run_migrations()
}
