//! Exports and receipts of a real deployment, and what was done to them.

use jsonwebtoken::jwk::JwkSet;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use relaytrace_domain::{Base64, Digest, chain_genesis, chain_hash};
use relaytrace_store::MIGRATOR;
use relaytrace_testing::TestApp;
use relaytrace_verify::{Receipt, verify_against_chain, verify_chain, verify_receipt};
use serde_json::{Value, json};
use sqlx::PgPool;

struct Real {
    export: String,
    receipt: String,
    jwks: JwkSet,
}

impl Real {
    fn chain(&self) -> Value {
        serde_json::from_str(&self.export).expect("as it was recorded")
    }

    fn receipt(&self) -> Receipt {
        verify_receipt(&self.receipt, &self.jwks).expect("as it was recorded")
    }
}

async fn real(owner: &PgPool) -> Real {
    let routes = ingest::router().merge(decide::router()).merge(poll::router()).merge(admin::router());
    let app = TestApp::new(owner, routes);
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    app.advance(7_200.0);
    app.state.store.escalate_due(10, None).await.expect("as it was recorded");
    let body = json!({"decision": "reject", "reason": "not \"this\" one, für heute"});
    assert_eq!(app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &body).await.status, 201);
    let polled = app.get("/v1/agents/a/decisions/poll", &agent.token()).await.json();
    let delivery = &polled["decisions"][0];
    let body = json!({"delivery_id": delivery["delivery_id"], "result": "accepted"});
    let path = format!("/v1/agents/a/decisions/{id}/ack");
    assert_eq!(app.post(&path, &agent.token(), &body).await.status, 200);
    let export = app.get(&format!("/v1/admin/requests/{id}/chain"), &app.person("ada", &["admin"])).await;
    Real {
        export: String::from_utf8(export.bytes).expect("as it was recorded"),
        receipt: delivery["receipt"].as_str().expect("as it was recorded").to_owned(),
        jwks: serde_json::from_value(app.state.receipt_keys.jwks().clone()).expect("as it was recorded"),
    }
}

/// The entry that a byte of the export is in, from 1.
fn entry_at(export: &str, position: usize) -> Option<usize> {
    let starts: Vec<_> = export.match_indices("{\"seq\":").map(|(start, _)| start).collect();
    let end = export.rfind("}]").expect("as it was recorded");
    if position > end { None } else { starts.iter().rposition(|start| *start <= position).map(|index| index + 1) }
}

fn pointers(chain: &Value) -> Vec<String> {
    verify_chain(chain).into_iter().map(|finding| finding.field).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_recorded_verifies_alone_and_together(owner: PgPool) {
    let real = real(&owner).await;
    assert_eq!(verify_chain(&real.chain()), []);
    assert_eq!(verify_against_chain(&real.receipt(), &real.chain()), []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_changed_byte_is_found_and_located(owner: PgPool) {
    let real = real(&owner).await;
    let changed = |position: usize, mask: u8| {
        let mut bytes = real.export.clone().into_bytes();
        bytes[position] ^= mask;
        // What is no JSON any more cannot be read: said with line and column.
        let Ok(chain) = serde_json::from_slice::<Value>(&bytes) else { return };
        let findings = verify_chain(&chain);
        assert!(!findings.is_empty(), "byte {position} ^ {mask} is not found");
        if let Some(entry) = entry_at(&real.export, position) {
            let found: Vec<_> = findings.iter().map(|finding| (finding.entry, finding.field.as_str())).collect();
            let is_located = found.iter().any(|(at, field)| *at == Some(entry) || field.starts_with("/entries/"))
                || found[0].1 == "/head";
            assert!(is_located, "byte {position} of entry {entry}: {found:?}");
            assert!(found[0].0.is_none_or(|first| first == entry), "byte {position} of entry {entry}: {found:?}");
        }
    };
    for position in 0..real.export.len() {
        changed(position, 1);
        changed(position, 0x20);
    }
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) });
    runner
        .run(&(0..real.export.len(), 1..=u8::MAX), |(position, mask)| {
            changed(position, mask);
            Ok(())
        })
        .unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_changed_byte_of_a_receipt_is_found(owner: PgPool) {
    let real = real(&owner).await;
    for position in 0..real.receipt.len() {
        for mask in [1, 2, 4, 8, 16, 32, 64] {
            let mut bytes = real.receipt.clone().into_bytes();
            bytes[position] ^= mask;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verify_receipt(&changed, &real.jwks).is_err(), "byte {position} ^ {mask}");
        }
    }
    assert_eq!(verify_receipt(&real.receipt, &JwkSet { keys: Vec::new() }).unwrap_err().field, "kid");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn removal_reorder_and_truncation_are_located(owner: PgPool) {
    let real = real(&owner).await;
    let edited = |edit: fn(&mut Vec<Value>)| {
        let mut chain = real.chain();
        edit(chain["entries"].as_array_mut().unwrap());
        chain
    };
    assert_eq!(pointers(&edited(|entries| drop(entries.remove(1))))[0], "/entries/1/prev_hash");
    assert_eq!(pointers(&edited(|entries| entries.swap(1, 2)))[0], "/entries/1/prev_hash");
    assert_eq!(pointers(&edited(|entries| entries.truncate(3))), ["/length", "/head"]);
    assert_eq!(pointers(&edited(Vec::clear)), ["/entries"]);

    // Cut off with its length and head set right: only the receipt shows it.
    let mut cut = edited(|entries| entries.truncate(2));
    (cut["length"], cut["head"]) = (json!(2), cut["entries"][1]["hash"].clone());
    assert_eq!(verify_chain(&cut), []);
    assert_eq!(verify_against_chain(&real.receipt(), &cut)[0].field, "/entries");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_chain_recomputed_as_a_whole_is_found_against_its_receipt_only(owner: PgPool) {
    let real = real(&owner).await;
    let mut chain = real.chain();
    let mut previous = chain_genesis(chain["request_id"].as_str().unwrap().parse().unwrap());
    for entry in chain["entries"].as_array_mut().unwrap() {
        let bytes =
            decode(entry["entry"].as_str().unwrap()).replace(r#""outcome":"rejected""#, r#""outcome":"approved""#);
        let hash: Digest = chain_hash(previous, bytes.as_bytes());
        entry["prev_hash"] = json!(previous);
        entry["hash"] = json!(hash);
        entry["entry"] = json!(Base64(bytes.into_bytes()));
        previous = hash;
    }
    chain["head"] = json!(previous);
    assert_eq!(verify_chain(&chain), []);
    let findings = verify_against_chain(&real.receipt(), &chain);
    let found: Vec<_> = findings.iter().map(|finding| (finding.entry, finding.what.as_str())).collect();
    assert_eq!(found, [(Some(3), "is not the receipt's chain_head"), (Some(3), "does not have the receipt's outcome")]);
}

fn decode(text: &str) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    String::from_utf8(BASE64_STANDARD.decode(text).expect("as it was recorded")).expect("as it was recorded")
}

/// The command's exit code and what it printed.
fn command(arguments: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_relaytrace-verify"))
        .args(arguments)
        .output()
        .expect("as it was recorded");
    (output.status.code(), String::from_utf8(output.stdout).expect("as it was recorded"))
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_command_says_it_by_its_exit_code(owner: PgPool) {
    let real = real(&owner).await;
    let folder = relaytrace_servers::scratch_folder().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (chain, receipt) = (write("chain.json", &real.export), write("receipt.txt", &real.receipt));
    let jwks = write("jwks.json", &serde_json::to_string(&real.jwks).unwrap());
    let edited = write("edited.json", &real.export.replacen("\"kind\":\"escalated\"", "\"kind\":\"extended\"", 1));

    let (code, said) = command(&["--chain", &chain, "--receipt", &receipt, "--jwks", &jwks]);
    assert_eq!((code, said.contains("note")), (Some(0), false), "{said}");
    let (code, said) = command(&["--chain", &chain]);
    assert_eq!((code, said.contains("without its receipt")), (Some(0), true), "{said}");
    let (code, said) = command(&["--chain", &edited]);
    assert_eq!(code, Some(1));
    assert!(said.contains("entry 2: /entries/1/kind is not what the entry's bytes say"), "{said}");
    let (code, said) = command(&["--json", "--chain", &edited]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["files"][0]["findings"][0]["field"]), (Some(1), &json!("/entries/1/kind")));
    assert_eq!(command(&["--chain", &receipt]).0, Some(2));
    assert_eq!(command(&["--chain", "/nowhere"]).0, Some(2));
    assert_eq!(command(&["--receipt", &receipt]).0, Some(2));
}
