//! `sqlx::migrate!` embeds `migrations/` without telling Cargo of the folder: a file that is added there alone would not be
//! built in.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
