//! `relaytrace-verify`: receipts and exported chains, checked offline.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use jsonwebtoken::jwk::JwkSet;
use relaytrace_domain::signing::AttestationKeys;
use relaytrace_verify::{
    Finding, Receipt, attestation_keys, notes_on_chain, verify_against_chain, verify_attestations, verify_chain,
    verify_event, verify_receipt,
};
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  curl -s $url/.well-known/jwks.json > jwks.json
  curl -s $url/v1/admin/requests/$id/chain -H \"$as_admin\" | relaytrace-verify --chain -
  relaytrace-verify --chain chain.json --receipt receipt.txt --jwks jwks.json --issuer production
  relaytrace-verify --chain chain.json --event event.json

A chain alone shows edits, removals and reordering. That it was not recomputed as a whole, or cut off before its
decision, only its receipt shows; what was cut off after the decision, only a later event shows. With --jwks each
decision's attestation is checked: that a function signed it which may speak for its cause.

Chain kinds and members that this version does not know are noted; they are no fault.

Exits with 0 if everything verifies, 1 if something does not, 2 if something cannot be read.";

/// What is not known of a chain that stands alone.
const UNCOMPARED: &str = "without its receipt or a later event, a chain that was recomputed as a whole or cut off looks \
                          like the original";

/// What is not known without keys.
const UNATTESTED: &str = "without --jwks, attestations of decisions are not checked";

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

    /// An event of the stream as JSON; its length and head are compared with the chain of its request. May be repeated.
    #[arg(long, value_name = "FILE", requires = "chain")]
    event: Vec<PathBuf>,

    /// The deployment whose receipts count: their `iss`, its `DEPLOYMENT_NAME`.
    #[arg(long, value_name = "NAME", requires = "receipt")]
    issuer: Option<String>,

    /// The deployment's keys, as /.well-known/jwks.json gives them: of receipts, and of the attestations in chains.
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,

    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// The findings of one file.
#[derive(Default)]
struct Checked {
    file: PathBuf,
    findings: Vec<Finding>,
    notes: Vec<String>,
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
    let keys = arguments.jwks.as_deref().map(read_keys).transpose()?;
    let no_keys = JwkSet { keys: Vec::new() };
    let (jwks, attestations) = keys.as_ref().map_or((&no_keys, None), |(jwks, keys)| (jwks, Some(keys)));
    let chains: Vec<(&PathBuf, Value)> =
        arguments.chain.iter().map(|file| Ok((file, read_json(file)?))).collect::<Result<_, String>>()?;
    let events: Vec<(&PathBuf, Value)> =
        arguments.event.iter().map(|file| Ok((file, read_json(file)?))).collect::<Result<_, String>>()?;
    let mut receipts = Vec::new();
    let mut checked = Vec::new();
    for file in &arguments.receipt {
        let (result, receipt) = check_receipt(file, jwks, arguments.issuer.as_deref())?;
        receipts.extend(receipt);
        checked.push(result);
    }
    // One chain and one receipt belong together, whatever they say; so do one chain and one event.
    let has_one = chains.len() == 1;
    for (file, chain) in &chains {
        let (mut findings, mut notes) = (verify_chain(chain), Vec::new());
        notes.extend(notes_on_chain(chain).iter().map(ToString::to_string));
        match attestations {
            Some(keys) => findings.extend(verify_attestations(chain, keys)),
            None => notes.push(UNATTESTED.to_owned()),
        }
        let is_own = |of: Option<&str>, given: usize| (has_one && given == 1) || of == chain["request_id"].as_str();
        let (mut has_receipt, mut has_event) = (false, false);
        for receipt in receipts.iter().filter(|receipt| is_own(receipt.request_id(), receipts.len())) {
            findings.extend(verify_against_chain(receipt, chain));
            has_receipt = true;
        }
        for (_, event) in events.iter().filter(|(_, event)| is_own(event["subject"].as_str(), events.len())) {
            findings.extend(verify_event(event, chain));
            has_event = true;
        }
        if !has_receipt && !has_event {
            notes.push(UNCOMPARED.to_owned());
        }
        checked.push(Checked { file: (*file).clone(), findings, notes });
    }
    let is_compared = |event: &Value| {
        (has_one && events.len() == 1) || chains.iter().any(|(_, chain)| chain["request_id"] == event["subject"])
    };
    for (file, event) in &events {
        let finding = Finding { entry: None, field: "/subject".to_owned(), what: "is of no chain given".to_owned() };
        let findings = if is_compared(event) { Vec::new() } else { vec![finding] };
        checked.push(Checked { file: (*file).clone(), findings, notes: Vec::new() });
    }
    Ok(checked)
}

/// Signature and issuer of a receipt; the receipt if its signature holds.
fn check_receipt(file: &Path, jwks: &JwkSet, issuer: Option<&str>) -> Result<(Checked, Option<Receipt>), String> {
    let mut checked = Checked { file: file.to_owned(), ..Checked::default() };
    let receipt = match verify_receipt(read(file)?.trim(), jwks) {
        Ok(receipt) => receipt,
        Err(finding) => {
            checked.findings.push(finding);
            return Ok((checked, None));
        }
    };
    let stated = receipt.issuer().unwrap_or_default();
    match issuer {
        Some(asked) if asked != stated => {
            let what = format!("is {stated:?}, not {asked:?}: it is of another deployment");
            checked.findings.push(Finding { entry: None, field: "iss".to_owned(), what });
        }
        Some(_) => {}
        None => checked.notes.push(format!("it is of the deployment {stated:?}; --issuer would compare that")),
    }
    Ok((checked, Some(receipt)))
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

/// Keys of receipts, and keys of attestations.
fn read_keys(file: &Path) -> Result<(JwkSet, AttestationKeys), String> {
    let jwks = read_json(file)?;
    let attestations = attestation_keys(&jwks).map_err(|fault| format!("{}: {fault}", file.display()))?;
    let receipts = serde_json::from_value(jwks);
    Ok((receipts.map_err(|error| format!("{}: is not a JWK set: {error}", file.display()))?, attestations))
}

fn print_lines(checked: &[Checked]) {
    for Checked { file, findings, notes } in checked {
        let file = file.display();
        for finding in findings {
            println!("{file}: {finding}");
        }
        if findings.is_empty() {
            println!("{file}: verifies");
        }
        for note in notes {
            println!("{file}: note: {note}");
        }
    }
}

fn print_json(checked: &[Checked]) {
    let files: Vec<_> = checked
        .iter()
        .map(|Checked { file, findings, notes }| {
            json!({"file": file, "verifies": findings.is_empty(), "findings": findings, "notes": notes})
        })
        .collect();
    println!("{}", json!({"verifies": checked.iter().all(|checked| checked.findings.is_empty()), "files": files}));
}
