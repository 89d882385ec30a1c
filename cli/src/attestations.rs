//! `relaytrace attestation-jwks`: the list of the functions' attestation keys, as `ATTESTATION_JWKS` takes it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use relaytrace_domain::signing::attestation_jwk;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::USAGE;

/// Whose keys to list. Each file holds an Ed25519 private key, PKCS#8 PEM; only its public half is printed.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:
  for f in ingest bridge decide timeout-sweep admin; do openssl genpkey -algorithm ed25519 -out $f.pem; done
  relaytrace attestation-jwks --ingest ingest.pem --bridge bridge.pem --decide decide.pem \
    --timeout-sweep timeout-sweep.pem --admin admin.pem")]
#[group(required = true, multiple = true)]
pub struct Options {
    /// Key of ingest: it may attest what agents and rules decide.
    #[arg(long, value_name = "FILE")]
    ingest: Option<PathBuf>,
    /// Key of bridge: the same.
    #[arg(long, value_name = "FILE")]
    bridge: Option<PathBuf>,
    /// Key of decide: operators.
    #[arg(long, value_name = "FILE")]
    decide: Option<PathBuf>,
    /// Key of timeout-sweep: timeouts, and what administrators stop.
    #[arg(long, value_name = "FILE")]
    timeout_sweep: Option<PathBuf>,
    /// Key of admin: administrators.
    #[arg(long, value_name = "FILE")]
    admin: Option<PathBuf>,
}

/// Prints the list.
pub fn run(options: &Options) -> ExitCode {
    let keys: [(&Option<PathBuf>, &[&str]); 5] = [
        (&options.ingest, &["agent", "policy"]),
        (&options.bridge, &["agent", "policy"]),
        (&options.decide, &["operator"]),
        // Administrators' causes for the stops that they order: it approves nothing by them.
        (&options.timeout_sweep, &["timeout", "admin"]),
        (&options.admin, &["admin"]),
    ];
    let given = keys.into_iter().filter_map(|(file, causes)| file.as_deref().map(|file| jwk(file, causes)));
    match given.collect::<Result<Vec<_>, _>>() {
        Ok(keys) => {
            println!("{}", json!({"keys": keys}));
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("relaytrace attestation-jwks: {fault}");
            ExitCode::from(USAGE)
        }
    }
}

fn jwk(file: &Path, causes: &[&str]) -> Result<Value, String> {
    let say = |fault: &dyn std::fmt::Display| format!("{}: {fault}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| say(&error))?;
    attestation_jwk(&SecretString::from(text), causes).map_err(|fault| say(&fault))
}
