//! The local stack as a process: what keeps it from starting is said with the file or variable, and another one's files
//! stay.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use relaytrace_servers::{Durability, Postgres, scratch_folder};

fn run(dir: &Path, variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_relaytrace-local"))
        .arg("run")
        .env("LOCAL_DIR", dir)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn a_port_that_is_none_is_named_with_its_variable() {
    let folder = scratch_folder().expect("a folder");
    let said = refused(&run(folder.path(), &[("PORT", "abc")]));
    assert!(said.contains("PORT") && said.contains("abc"), "{said}");
}

#[test]
fn a_second_stack_leaves_the_files_of_the_first_alone() {
    let folder = scratch_folder().expect("a folder");
    // As the first one holds it.
    let _postgres = Postgres::start(&folder.path().join("postgres"), Durability::Throwaway).expect("a server");
    let description = folder.path().join("dev.json");
    fs::write(&description, "of the first").expect("written");
    let said = refused(&run(folder.path(), &[]));
    assert!(said.contains(&*folder.path().join("postgres").to_string_lossy()), "{said}");
    assert_eq!(fs::read_to_string(&description).expect("it is there"), "of the first");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = scratch_folder().expect("a folder");
    // A file where a folder is to be made: that is refused to root, too.
    let taken = folder.path().join("taken");
    fs::write(&taken, "").expect("written");
    fs::set_permissions(&taken, fs::Permissions::from_mode(0o444)).expect("read-only");
    let said = refused(&run(&taken.join("local"), &[]));
    assert!(said.contains(&*taken.join("local").to_string_lossy()), "{said}");
}
