//! `relaytrace-verify`: receipts and exported chains, checked offline.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use jsonwebtoken::jwk::JwkSet;
use relaytrace_verify::{Finding, Receipt, verify_against_chain, verify_chain, verify_receipt};
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  curl -s $url/.well-known/jwks.json > jwks.json
  curl -s $url/v1/admin/requests/$id/chain -H \"$as_admin\" | relaytrace-verify --chain -
  relaytrace-verify --chain chain.json --receipt receipt.txt --jwks jwks.json

A chain alone shows edits, removals and reordering. That it was not recomputed as a whole, or cut off before its
decision, only its receipt shows; what was cut off after the decision, only a later event shows.

Exits with 0 if everything verifies, 1 if something does not, 2 if something cannot be read.";

/// Check receipts and exported chains offline.
#[derive(Parser)]
#[command(name = "relaytrace-verify", version, after_help = EXAMPLES)]
struct Arguments {
    /// A chain as GET /v1/admin/requests/{id}/chain gives it; - is standard input. May be repeated.
    #[arg(long, value_name = "FILE", required_unless_present = "receipt")]
    chain: Vec<PathBuf>,

    /// A receipt, compact JWS; held against the chain of its request, if that is given. May be repeated.
    #[arg(long, value_name = "FILE", requires = "jwks")]
    receipt: Vec<PathBuf>,

    /// The deployment's receipt keys, as /.well-known/jwks.json gives them.
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,

    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// What was found in one file.
struct Checked {
    file: PathBuf,
    findings: Vec<Finding>,
    note: Option<&'static str>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match check(&arguments) {
        Ok(checked) => {
            if arguments.json {
                print_json(&checked);
            } else {
                print_lines(&checked);
            }
            ExitCode::from(u8::from(checked.iter().any(|checked| !checked.findings.is_empty())))
        }
        Err(fault) => {
            eprintln!("relaytrace-verify: {fault}");
            ExitCode::from(2)
        }
    }
}

fn check(arguments: &Arguments) -> Result<Vec<Checked>, String> {
    let jwks = arguments.jwks.as_deref().map(read_jwks).transpose()?.unwrap_or(JwkSet { keys: Vec::new() });
    let chains: Vec<(&PathBuf, Value)> =
        arguments.chain.iter().map(|file| Ok((file, read_json(file)?))).collect::<Result<_, String>>()?;
    let mut receipts: Vec<Receipt> = Vec::new();
    let mut checked = Vec::new();
    for file in &arguments.receipt {
        let mut result = Checked { file: file.clone(), findings: Vec::new(), note: None };
        match verify_receipt(read(file)?.trim(), &jwks) {
            Ok(receipt) => receipts.push(receipt),
            Err(finding) => result.findings.push(finding),
        }
        checked.push(result);
    }
    for (file, chain) in &chains {
        let mut findings = verify_chain(chain);
        // One chain and one receipt belong together, whatever they say.
        let is_pair = chains.len() == 1 && receipts.len() == 1;
        let own: Vec<_> =
            receipts.iter().filter(|receipt| is_pair || receipt.request_id() == chain["request_id"].as_str()).collect();
        findings.extend(own.iter().flat_map(|receipt| verify_against_chain(receipt, chain)));
        let note = own.is_empty().then_some(
            "without its receipt, a chain that was recomputed as a whole or cut off looks like the original",
        );
        checked.push(Checked { file: (*file).clone(), findings, note });
    }
    Ok(checked)
}

fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let outcome = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    outcome.map(|()| text).map_err(|error| format!("{}: {error}", file.display()))
}

fn read_json(file: &Path) -> Result<Value, String> {
    serde_json::from_str(&read(file)?).map_err(|error| format!("{}: is not JSON: {error}", file.display()))
}

fn read_jwks(file: &Path) -> Result<JwkSet, String> {
    serde_json::from_str(&read(file)?).map_err(|error| format!("{}: is not a JWK set: {error}", file.display()))
}

fn print_lines(checked: &[Checked]) {
    for Checked { file, findings, note } in checked {
        let file = file.display();
        for finding in findings {
            println!("{file}: {finding}");
        }
        if findings.is_empty() {
            println!("{file}: verifies");
        }
        if let Some(note) = note {
            println!("{file}: note: {note}");
        }
    }
}

fn print_json(checked: &[Checked]) {
    let files: Vec<_> = checked
        .iter()
        .map(|Checked { file, findings, note }| {
            json!({"file": file, "verifies": findings.is_empty(), "findings": findings, "note": note})
        })
        .collect();
    println!("{}", json!({"verifies": checked.iter().all(|checked| checked.findings.is_empty()), "files": files}));
}
