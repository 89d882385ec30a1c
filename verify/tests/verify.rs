//! Exports and receipts of a real deployment, and what was done to them.

use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use relaytrace_domain::{Base64, Digest, chain_genesis, chain_hash};
use relaytrace_store::MIGRATOR;
use relaytrace_testing::TestApp;
use relaytrace_verify::{
    Receipt, attestation_keys, notes_on_chain, verify_against_chain, verify_attestations, verify_chain, verify_event,
    verify_receipt,
};
use serde_json::{Value, json};
use sqlx::PgPool;

struct Real {
    export: String,
    /// In the order of their entries.
    events: Vec<Value>,
    receipt: String,
    /// As the deployment publishes them.
    keys: Value,
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
    let events: Vec<String> =
        sqlx::query_scalar("SELECT convert_from(payload, 'UTF8') FROM outbox WHERE request_id::text = $1 ORDER BY seq")
            .bind(&id)
            .fetch_all(owner)
            .await
            .expect("as it was recorded");
    Real {
        events: events.iter().map(|event| serde_json::from_str(event).expect("as it was recorded")).collect(),
        export: String::from_utf8(export.bytes).expect("as it was recorded"),
        receipt: delivery["receipt"].as_str().expect("as it was recorded").to_owned(),
        keys: app.state.receipt_keys.jwks().clone(),
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

/// The chain as the owner of the database would write it anew, each entry's text changed so.
fn recomputed(chain: &Value, change: impl Fn(&str) -> String) -> Value {
    let mut chain = chain.clone();
    let mut previous =
        chain_genesis(chain["request_id"].as_str().expect("as it was recorded").parse().expect("as it was recorded"));
    for entry in chain["entries"].as_array_mut().expect("as it was recorded") {
        let bytes = change(&decode(entry["entry"].as_str().expect("as it was recorded")));
        let hash: Digest = chain_hash(previous, bytes.as_bytes());
        entry["prev_hash"] = json!(previous);
        entry["hash"] = json!(hash);
        entry["entry"] = json!(Base64(bytes.into_bytes()));
        previous = hash;
    }
    chain["head"] = json!(previous);
    chain
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_chain_recomputed_as_a_whole_is_found_against_its_receipt_only(owner: PgPool) {
    let real = real(&owner).await;
    let chain = recomputed(&real.chain(), |entry| entry.replace(r#""outcome":"rejected""#, r#""outcome":"approved""#));
    assert_eq!(verify_chain(&chain), []);
    let findings = verify_against_chain(&real.receipt(), &chain);
    let found: Vec<_> = findings.iter().map(|finding| (finding.entry, finding.what.as_str())).collect();
    assert_eq!(found, [(Some(3), "is not the receipt's chain_head"), (Some(3), "does not have the receipt's outcome")]);
}

/// The chain with one more entry of these members, linked as it should be.
fn continued(chain: &Value, members: &Value) -> Value {
    let mut chain = chain.clone();
    let entries = chain["entries"].as_array_mut().expect("as it was recorded");
    let last = entries.last().expect("as it was recorded").clone();
    let mut content: Value =
        serde_json::from_str(&decode(last["entry"].as_str().expect("as it was recorded"))).expect("as it was recorded");
    content["seq"] = json!(last["seq"].as_u64().expect("as it was recorded") + 1);
    for (name, value) in members.as_object().expect("as it was recorded") {
        content[name] = value.clone();
    }
    let previous: Digest = last["hash"].as_str().expect("as it was recorded").parse().expect("as it was recorded");
    let bytes = content.to_string();
    let hash = chain_hash(previous, bytes.as_bytes());
    entries
        .push(json!({"seq": content["seq"], "kind": content["kind"], "at": content["at"], "actor": content["actor"],
        "entry": Base64(bytes.into_bytes()), "prev_hash": previous, "hash": hash}));
    (chain["length"], chain["head"]) = (json!(entries_of(&chain)), json!(hash));
    chain
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_erased_envelope_is_noted_and_no_fault(owner: PgPool) {
    let real = real(&owner).await;
    let mut chain = real.chain();
    chain["envelope"] = Value::Null;
    assert_eq!(pointers(&chain), ["/envelope"], "one that is only missing");
    chain["erased"] = json!(true);
    assert_eq!(pointers(&chain), [""; 0]);
    assert_eq!(verify_against_chain(&real.receipt(), &chain), []);
    for event in &real.events {
        assert_eq!(verify_event(event, &chain), []);
    }
    assert!(notes_on_chain(&chain).iter().any(|note| format!("{note:?}").contains("was erased")));
    let mut present = real.chain();
    present["erased"] = json!(true);
    assert_eq!(pointers(&present), ["/erased"]);
    let mut other = chain.clone();
    other["entries"][0] = chain["entries"][1].clone();
    assert_ne!(pointers(&other), [""; 0]);
}

fn entries_of(chain: &Value) -> usize {
    chain["entries"].as_array().expect("as it was recorded").len()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn kinds_and_members_that_are_not_known_are_noted_and_no_fault(owner: PgPool) {
    let real = real(&owner).await;
    let noted = |chain: &Value| notes_on_chain(chain).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    // Of the contract, with members that nothing compares yet.
    for kind in ["rerouted", "outcome"] {
        let chain = continued(&real.chain(), &json!({"kind": kind, "whatever": 1}));
        assert_eq!(verify_chain(&chain), [], "{kind}");
        assert!(!noted(&chain).contains("does not know"), "{}", noted(&chain));
    }
    let mut later = continued(&real.chain(), &json!({"kind": "teleported"}));
    later["entries"][1]["colour"] = json!("blue");
    later["epoch"] = json!(2);
    assert_eq!(verify_chain(&later), []);
    let notes = noted(&later);
    let named = ["entry 5: /entries/4/kind is \"teleported\"", "/entries/1/colour is a member", "/epoch is a member"];
    assert!(named.iter().all(|note| notes.contains(note)), "{notes}");
    // Nobody can hide a change behind a kind that is not known.
    later["entries"][4]["kind"] = json!("teleported-elsewhere");
    assert_eq!(pointers(&later), ["/entries/4/kind"]);
    // A vote without an attestation is said to have none; one after the decision is a fault.
    let late = continued(&real.chain(), &json!({"kind": "voted"}));
    let notes = noted(&late);
    assert!(notes.starts_with("entry 5: /entries/4/entry ") && notes.ends_with("has none"), "{notes}");
    assert!(pointers(&late).contains(&"/entries/4/kind".to_owned()), "{:?}", pointers(&late));
    assert_eq!(noted(&real.chain()), "");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_finds_what_was_cut_off_or_recomputed_after_the_decision(owner: PgPool) {
    let real = real(&owner).await;
    let chain = real.chain();
    assert_eq!((real.events.len(), entries_of(&chain)), (4, 4));
    for event in &real.events {
        assert_eq!(verify_event(event, &chain), [], "{}", event["type"]);
    }
    let last = &real.events[3];
    let mut cut = chain.clone();
    cut["entries"].as_array_mut().unwrap().truncate(3);
    (cut["length"], cut["head"]) = (json!(3), cut["entries"][2]["hash"].clone());
    assert_eq!(verify_chain(&cut), []);
    assert_eq!(verify_against_chain(&real.receipt(), &cut), []);
    assert_eq!(verify_event(last, &cut)[0].field, "/entries");
    // Cut off and continued otherwise.
    let other = continued(&cut, &json!({"kind": "dead_lettered"}));
    assert_eq!(verify_chain(&other), []);
    let fields: Vec<_> = verify_event(last, &other).into_iter().map(|finding| finding.field).collect();
    assert_eq!(fields, ["/entries/3/hash", "/entries/3/kind"]);
    // Every change of what an event tells is found.
    for (pointer, value) in [
        ("/subject", json!("019ab9a0-0000-7000-8000-000000000001")),
        ("/id", json!("019ab9a0-0000-7000-8000-000000000001/4")),
        ("/sequence", json!(3)),
        ("/type", json!("handoff.decided")),
        ("/data/chain/length", json!(3)),
        ("/data/chain/length", json!(0)),
        ("/data/chain/head", chain["entries"][2]["hash"].clone()),
        ("/data/agent_id", json!("b")),
        ("/data/client_request_key", json!("k2")),
        ("/data/outcome", json!("approved")),
        ("/data/cause", json!("timeout")),
    ] {
        let mut changed = last.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        assert_ne!(verify_event(&changed, &chain), [], "{pointer}");
    }
    // After a restore an id has a third part.
    let mut restored = last.clone();
    restored["id"] = json!(format!("{}/2", restored["id"].as_str().unwrap()));
    assert_eq!(verify_event(&restored, &chain), []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_of_another_use_signs_no_receipt(owner: PgPool) {
    let mut real = real(&owner).await;
    real.jwks.keys[0].common.public_key_use = Some(PublicKeyUse::Other("attestation".to_owned()));
    assert_eq!(verify_receipt(&real.receipt, &real.jwks).unwrap_err().field, "kid");
}

/// Every finding about attestations, by the keys of this JWK set.
fn unattested(chain: &Value, jwks: &Value) -> Vec<String> {
    let keys = attestation_keys(jwks).expect("as it was recorded");
    verify_attestations(chain, &keys).iter().map(ToString::to_string).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_that_no_function_signed_is_found(owner: PgPool) {
    let real = real(&owner).await;
    let (chain, jwks) = (real.chain(), real.keys.clone());
    assert_eq!(unattested(&chain, &jwks), [""; 0]);
    assert_eq!(notes_on_chain(&chain), []);
    // The owner of the database writes it anew: whole in itself, and not signed.
    let does_not_verify = ["entry 3: /entries/2/entry has an attestation that does not verify"];
    for (from, to) in [
        (r#""outcome":"rejected""#, r#""outcome":"approved""#),
        (r#""reason":"not"#, r#""reason":"nor"#),
        (r#""kind":"decided","#, r#""kind":"decided","typ":"relaytrace-attestation-v1","#),
        (r#""kind":"decided","#, r#""kind":"decided","for":"jonas","#),
        (r#""sig":""#, r#""sig":"AAAA"#),
    ] {
        let forged = recomputed(&chain, |entry| {
            if entry.contains(r#""kind":"decided""#) { entry.replacen(from, to, 1) } else { entry.to_owned() }
        });
        assert_eq!(
            (verify_chain(&forged), unattested(&forged, &jwks)),
            (vec![], does_not_verify.map(str::to_owned).into())
        );
    }
    // Its bytes say so without its hashes, too.
    let mut changed = chain.clone();
    let entry = decode(chain["entries"][2]["entry"].as_str().unwrap()).replace("rejected", "rejectee");
    changed["entries"][2]["entry"] = json!(Base64(entry.into_bytes()));
    assert_eq!(unattested(&changed, &jwks), does_not_verify);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_attests_only_what_it_is_listed_for(owner: PgPool) {
    let real = real(&owner).await;
    let listed = |change: fn(&mut Value)| {
        let mut jwks = real.keys.clone();
        jwks["keys"].as_array_mut().unwrap().iter_mut().filter(|jwk| jwk["use"] == "attestation").for_each(change);
        jwks
    };
    let not_listed = ["entry 3: /entries/2/entry has an attestation that is by a key that is not listed"];
    let of_others = listed(|jwk| jwk["causes"] = json!(["timeout", "admin", "agent", "policy"]));
    let said = unattested(&real.chain(), &of_others);
    assert_eq!(
        said,
        ["entry 3: /entries/2/entry has an attestation that is by a key that may not speak for this cause"]
    );
    assert_eq!(unattested(&real.chain(), &listed(|jwk| jwk["kid"] = json!("another"))), not_listed);
    // A receipt key, a key of no use, and one without causes attest nothing.
    for member in ["use", "causes"] {
        let mut without = listed(|_| ());
        for jwk in without["keys"].as_array_mut().unwrap() {
            jwk.as_object_mut().unwrap().remove(member);
        }
        assert_eq!(unattested(&real.chain(), &without), not_listed, "{member}");
    }
    assert_eq!(unattested(&real.chain(), &listed(|jwk| jwk["use"] = json!("sig"))), not_listed);
    assert!(attestation_keys(&listed(|jwk| jwk["x"] = json!("AA"))).is_err());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_without_an_attestation_is_noted_and_no_fault(owner: PgPool) {
    let real = real(&owner).await;
    let before = recomputed(&real.chain(), |entry| {
        let unsigned = entry.split_once(r#","attestation":"#).map(|(before, _)| format!("{before}}}"));
        unsigned.unwrap_or_else(|| entry.to_owned())
    });
    let jwks = real.keys.clone();
    assert_eq!((verify_chain(&before), unattested(&before, &jwks)), (vec![], vec![]));
    let notes: Vec<_> = notes_on_chain(&before).iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["entry 3: /entries/2/entry is from before attestations, or forged: has none"]);
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
    let jwks = write("jwks.json", &real.keys.to_string());
    let edited = write("edited.json", &real.export.replacen("\"kind\":\"escalated\"", "\"kind\":\"extended\"", 1));

    let whole = ["--chain", &chain, "--receipt", &receipt, "--jwks", &jwks];
    let (code, said) = command(&whole);
    assert_eq!((code, said.contains("without its receipt")), (Some(0), false), "{said}");
    let issuer = real.receipt().issuer().unwrap().to_owned();
    assert!(said.contains(&format!("it is of the deployment {issuer:?}; --issuer would compare that")), "{said}");
    let (code, said) = command(&[&whole[..], &["--issuer", &issuer]].concat());
    assert_eq!((code, said.contains("--issuer")), (Some(0), false), "{said}");
    let (code, said) = command(&[&whole[..], &["--issuer", "another"]].concat());
    assert_eq!((code, said.contains("iss is")), (Some(1), true), "{said}");

    let forged = recomputed(&real.chain(), |entry| entry.replace(r#""outcome":"rejected""#, r#""outcome":"approved""#));
    let forged = write("forged.json", &forged.to_string());
    let (code, said) = command(&["--chain", &forged]);
    assert_eq!((code, said.contains("without --jwks, attestations")), (Some(0), true), "{said}");
    let (code, said) = command(&["--json", "--chain", &forged, "--jwks", &jwks]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let finding = &said["files"][0]["findings"][0];
    assert_eq!(
        (code, &finding["entry"], &finding["field"]),
        (Some(1), &json!(3), &json!("/entries/2/entry")),
        "{said}"
    );
    assert!(!said.to_string().contains("without --jwks"), "{said}");

    let event = write("event.json", &real.events[3].to_string());
    let (code, said) = command(&["--chain", &chain, "--event", &event]);
    assert_eq!((code, said.contains("without its receipt")), (Some(0), false), "{said}");
    let mut foreign = real.events[3].clone();
    foreign["subject"] = json!("019ab9a0-0000-7000-8000-000000000001");
    let foreign = write("foreign.json", &foreign.to_string());
    let (code, said) = command(&["--chain", &chain, "--event", &foreign]);
    assert_eq!((code, said.contains("/request_id is not the event's subject")), (Some(1), true), "{said}");
    let (code, said) = command(&["--chain", &chain, "--event", &foreign, "--event", &event]);
    assert_eq!((code, said.contains("/subject is of no chain given")), (Some(1), true), "{said}");
    assert_eq!(command(&["--chain", &chain, "--event", &receipt]).0, Some(2));
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
