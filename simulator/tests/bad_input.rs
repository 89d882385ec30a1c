//! What cannot be played says why, and ends with its own status.

mod support;

use std::time::Duration;

use support::proxy::{self, Changes};
use support::{Service, interrupted, said, simulator};
use tempfile::TempDir;

/// Status 2, and words that help.
fn refused(arguments: &[&str], words: &str) {
    let output = simulator(arguments);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(words) && !said.contains("panicked"), "{arguments:?}: {said}");
}

#[test]
fn what_cannot_be_played_is_refused_in_words() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // An operator's token is a JWT; whose, is its `sub`: {"sub":"ann"}.
    let token = "e30.eyJzdWIiOiJhbm4ifQ.x";
    let people = ["--admin-token", token, "--operator-token", token];
    let at = |url| [["run", "smoke", "--url", url].as_slice(), &people].concat();
    refused(&at("http://127.0.0.1:9"), "cannot reach http://127.0.0.1:9");
    refused(&at("relay.example"), "is no http or https address");
    refused(&["run", "smoke", "--url", "http://127.0.0.1:9", "--stack", "/nowhere.json"], "cannot read /nowhere.json");
    refused(&["run", "smoke", "--stack", &file("other.json", "{}")], "describes no stack");
    refused(&["run", "no-such-scenario"], "there are: baseline");
    refused(&["run", "/nowhere.toml"], "cannot read the scenario");
    refused(&["run", &file("half.toml", "title = ")], "is no scenario");
    refused(&["run", "smoke", "--rate", "0"], "load.rate: 0");
    refused(&["run", "smoke", "--seconds", "inf"], "seconds: inf");
    refused(&["pilot", "no-such-scenario"], "there are: baseline");
    let needs_own = [["run", "nats-outage", "--url", "http://127.0.0.1:9"].as_slice(), &people].concat();
    refused(&needs_own, "it breaks servers");
}

#[test]
fn a_service_that_does_not_know_us_or_the_time_says_so() {
    let service = Service::start();
    let url = format!("http://{}", service.address);
    let stranger = "e30.eyJzdWIiOiJhbm4ifQ.x";
    let arguments = [
        "run",
        "smoke",
        "--url",
        &url,
        "--admin-token",
        stranger,
        "--operator-token",
        stranger,
        "--operator-token",
        stranger,
    ];
    refused(&arguments, "does not accept the token of an administrator");
    refused(&arguments[..8], "two operators' tokens are needed");

    let hours_off = proxy::start(
        service.address,
        Changes {
            request: |_, _| {},
            response: |_, headers| {
                headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().expect("a date is a header's value"));
            },
            ..Changes::default()
        },
    );
    let url = format!("http://{hours_off}");
    refused(&["run", "smoke", "--url", &url, "--stack", &service.description()], "this machine's clock is");
}

#[test]
fn a_run_that_is_interrupted_writes_its_report_and_stops_its_servers() {
    let folder = TempDir::new().unwrap();
    let report = folder.path().to_str().unwrap();
    let output = interrupted(&["run", "smoke", "--seconds", "60", "--report", report], Duration::from_secs(12));
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    let text = std::fs::read_to_string(folder.path().join("smoke.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["interrupted"], "it was stopped before its end");
    let states = written["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["state"].as_str().unwrap());
    assert!(states.into_iter().all(|state| state == "not_measured"), "{text}");
    for name in ["smoke.md", "smoke.svg"] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
}

#[test]
fn the_scenarios_are_listed_and_explained() {
    let listed = simulator(&["list"]);
    assert!(listed.status.success());
    assert!(said(&listed).contains("nats-outage") && said(&listed).contains("on a stack of its own only"));
    assert!(said(&simulator(&["run", "--help"])).contains("--operator-token"));
}
