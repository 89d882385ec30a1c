//! A page's file that is added is embedded too: by itself, the macro that embeds them notices only changed ones.

fn main() {
    println!("cargo::rerun-if-changed=page");
}
