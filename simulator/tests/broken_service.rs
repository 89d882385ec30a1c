//! A service that breaks a criterion is caught, by that criterion.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use hyper::HeaderMap;
use support::proxy::{self, Changes};
use support::{Played, Service, said};

const SCENARIO: &str = r#"
title = "a broken service"
seconds = 2
drain_seconds = 30
criteria = [1, 2, 3, 6, 7, 8]
[load]
agents = 3
keys = 2
rate = 15
[agents]
patient = 60
forgetful = 20
buggy = 20
[operators]
people = 4
think_ms = [50, 200]
approve = 60
reject = 20
race = 20
"#;

/// A criterion, what breaks it, and what puts it right again.
struct Break {
    criterion: u64,
    what: &'static str,
    breaks: &'static str,
    heals: &'static str,
}

const BREAKS: [Break; 4] = [
    Break {
        criterion: 1,
        what: "some submissions are answered with 201 and not kept",
        breaks: "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                DELETE FROM hitl_requests WHERE request_id = NEW.request_id; RETURN NULL; END $$;
            CREATE TRIGGER lose AFTER INSERT ON hitl_requests FOR EACH ROW
                WHEN (NEW.client_request_key ~ '[37]$') EXECUTE FUNCTION lose();",
        heals: "DROP FUNCTION lose CASCADE",
    },
    Break {
        criterion: 2,
        what: "a second decision overwrites the first",
        breaks: "ALTER TABLE hitl_decisions DISABLE TRIGGER hitl_decisions_append_only;
            CREATE FUNCTION overwrite() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                UPDATE hitl_decisions SET decided_by_id = 'a-second-operator' WHERE request_id = NEW.request_id;
                RETURN NULL; END $$;
            CREATE TRIGGER overwrite AFTER UPDATE ON deliveries FOR EACH ROW
                WHEN (NEW.state = 'acknowledged') EXECUTE FUNCTION overwrite();",
        heals: "DROP FUNCTION overwrite CASCADE; ALTER TABLE hitl_decisions ENABLE ALWAYS TRIGGER hitl_decisions_append_only",
    },
    Break {
        criterion: 6,
        what: "the key of a submission is forgotten",
        breaks: "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                DELETE FROM request_dedupe WHERE client_request_key = NEW.client_request_key; RETURN NULL; END $$;
            CREATE TRIGGER forget AFTER INSERT ON request_dedupe FOR EACH ROW EXECUTE FUNCTION forget();",
        heals: "DROP FUNCTION forget CASCADE",
    },
    Break {
        criterion: 8,
        what: "the bytes of a chain's entry are not those that were hashed",
        breaks: "ALTER TABLE approval_chain DROP CONSTRAINT approval_chain_sound;
            CREATE FUNCTION garble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                NEW.entry := set_byte(NEW.entry, 30, get_byte(NEW.entry, 30) # 1); RETURN NEW; END $$;
            CREATE TRIGGER garble BEFORE INSERT ON approval_chain FOR EACH ROW
                WHEN (NEW.kind = 'acknowledged') EXECUTE FUNCTION garble();",
        heals: "DROP FUNCTION garble CASCADE",
    },
];

/// One test for all: they share a service, and each breaks all of it.
#[test]
fn a_broken_criterion_is_missed_and_no_other() {
    let service = Service::start();
    let whole = service.play(SCENARIO, service.address);
    assert_eq!(whole.output.status.code(), Some(0), "{}", said(&whole.output));
    for Break { criterion, what, breaks, heals } in BREAKS {
        service.sql(breaks);
        let played = service.play(SCENARIO, service.address);
        service.sql(heals);
        expect_missed(criterion, what, &played);
    }
    let broken = proxy::start(service.address, Changes { request: another_nonce_now_and_then, ..Changes::default() });
    expect_missed(7, "some responses are signed for another call's nonce", &service.play(SCENARIO, broken));
    let broken = proxy::start(service.address, Changes { request: another_nonce, ..Changes::default() });
    let played = service.play(SCENARIO, broken);
    expect_missed(7, "every response is signed for another call's nonce", &played);
    assert!(
        said(&played.output).contains("cannot tell that responses are the service's own"),
        "{}",
        said(&played.output)
    );
}

/// The verdict is 1 and names this criterion alone. What it says is shown with `--nocapture`.
fn expect_missed(criterion: u64, what: &str, played: &Played) {
    let said = said(&played.output);
    assert_eq!(played.output.status.code(), Some(1), "{what}: {said}");
    assert_eq!(played.missed(), [criterion], "{what}: {said}");
    println!("Broken: {what}");
    for line in said.lines().skip_while(|line| !line.starts_with(&format!("{criterion} FAIL"))).take(2) {
        println!("{line}");
    }
}

/// Polls are left alone: an answer that is refused with a decision in it costs that agent a lease, and enough of those
/// cost criterion 3 as well.
fn another_nonce_now_and_then(path: &str, headers: &mut HeaderMap) {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let is_agents = headers.contains_key("relaytrace-nonce") && !path.contains("/decisions/poll");
    if is_agents && CALLS.fetch_add(1, Ordering::Relaxed) % 7 == 6 {
        another_nonce(path, headers);
    }
}

fn another_nonce(_: &str, headers: &mut HeaderMap) {
    if let Some(nonce) = headers.get_mut("relaytrace-nonce") {
        *nonce = "the-nonce-of-another-call".parse().unwrap();
    }
}
