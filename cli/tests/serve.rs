//! The command `relaytrace` as a process: what it refuses, and what it serves.

use std::collections::HashMap;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::PgPool;
use sqlx::migrate::Migrator;

use relaytrace_domain::signing::attestation_jwk;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::TestKey;

static NOTHING: Migrator = Migrator::DEFAULT;

fn command(environment: &HashMap<&str, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relaytrace"));
    command.env_clear().envs(environment).stdin(Stdio::null());
    command
}

/// What a deployment over this database sets.
fn environment(owner: &PgPool, port: u16) -> HashMap<&'static str, String> {
    let options = owner.connect_options();
    let name = options.get_database().expect("a database");
    let server = std::env::var("DATABASE_URL").expect("DATABASE_URL: run `make test`");
    let mut url: reqwest::Url = server.parse().expect("a URL");
    url.set_path(name);
    let keys = serde_json::json!({"keys": [TestKey::generate().jwk("k")]});
    let attestation_key = TestKey::generate().private_pem();
    let causes = ["operator", "timeout", "admin", "agent", "policy"];
    let listed = attestation_jwk(&attestation_key.as_str().into(), &causes).expect("a key");
    HashMap::from([
        ("DATABASE_URL", url.to_string()),
        ("NATS_URL", "nats://127.0.0.1:9".into()),
        ("DEPLOYMENT_NAME", "test".into()),
        ("MASTER_SECRETS", format!("m1:{}=", "A".repeat(43))),
        ("RECEIPT_KEY", TestKey::generate().private_pem()),
        ("ATTESTATION_KEY", attestation_key),
        ("ATTESTATION_JWKS", serde_json::json!({"keys": [listed]}).to_string()),
        ("ISSUER", "https://issuer.test".into()),
        ("ISSUER_JWKS", keys.to_string()),
        ("BIND_ADDRESS", "127.0.0.1".into()),
        ("PORT", port.to_string()),
    ])
}

fn refused(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn every_fault_of_arguments_and_configuration_is_said_at_once() {
    let variables = HashMap::from([("PORT", "abc".to_owned())]);
    let mut command = command(&variables);
    let output = command.args(["serve", "--only", "ingest,nonsense", "--sweep-seconds", "never"]).output().unwrap();
    let said = refused(&output, 64);
    for fault in [
        "nonsense",
        "timeout-sweep",
        "--sweep-seconds",
        "PORT",
        "DATABASE_URL is required",
        "MASTER_SECRETS",
        "ATTESTATION_KEY",
    ] {
        assert!(said.contains(fault), "{fault} is not in:\n{said}");
    }
}

#[test]
fn a_local_stack_is_taken_only_where_it_is_named() {
    // As a checkout has it, in the working directory.
    let checkout = tempfile::tempdir().unwrap();
    let description = checkout.path().join(".local/dev.json");
    std::fs::create_dir(checkout.path().join(".local")).unwrap();
    let stack = serde_json::json!({"environment": {"DATABASE_URL": "postgres://localhost/x", "DEPLOYMENT_NAME": "it"}});
    std::fs::write(&description, stack.to_string()).unwrap();
    let faults = |environment: &HashMap<&str, String>| {
        let mut command = command(environment);
        refused(&command.arg("serve").current_dir(checkout.path()).output().unwrap(), 64)
    };
    let unnamed = faults(&HashMap::new());
    assert!(unnamed.contains("DATABASE_URL is required") && unnamed.contains("DEPLOYMENT_NAME"), "{unnamed}");
    let named = HashMap::from([("RELAYTRACE_DEV_JSON", description.display().to_string())]);
    let said = faults(&named);
    assert!(!said.contains("DATABASE_URL") && !said.contains("DEPLOYMENT_NAME") && said.contains("ISSUER"), "{said}");
    // A deployment's own configuration is not mixed with that of a stack.
    let mut own = named;
    own.insert("DATABASE_URL", "postgres://localhost/own".into());
    assert!(faults(&own).contains("DEPLOYMENT_NAME"));
}

#[test]
fn an_unknown_argument_is_a_usage_error_and_help_is_not() {
    let none = HashMap::new();
    refused(&command(&none).args(["serve", "--nonsense"]).output().unwrap(), 64);
    let help = command(&none).args(["serve", "--help"]).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--only ingest,poll"));
}

#[sqlx::test(migrator = "NOTHING")]
async fn a_port_in_use_and_a_database_without_migrations_are_said_together(owner: PgPool) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let environment = environment(&owner, taken.local_addr().expect("an address").port());
    let said = refused(&command(&environment).arg("serve").output().expect("it ran"), 69);
    assert!(said.contains("cannot listen on 127.0.0.1"), "{said}");
    assert!(said.contains("relaytrace migrate"), "{said}");
}

/// A process that is killed with its test.
struct Serving(Child, u16);

impl Serving {
    async fn start(owner: &PgPool, arguments: &[&str]) -> Self {
        let port = relaytrace_servers::free_port(None).expect("a port");
        let environment = environment(owner, port);
        let mut command = command(&environment);
        let child = command.arg("serve").args(arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let serving = Self(child.expect("it starts"), port);
        let begun = Instant::now();
        while serving.status("/readyz").await != Some(200) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not become ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        serving
    }

    async fn status(&self, path: &str) -> Option<u16> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.1)).await.ok()?;
        Some(answer.status().as_u16())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// Every path of the committed document, its parameters filled in.
fn documented() -> Vec<String> {
    let document = include_str!("../../contract/openapi.json");
    let document: Value = serde_json::from_str(document).expect("JSON");
    let id = "019ab9a0-0000-7000-8000-000000000000";
    let paths = document["paths"].as_object().expect("paths").keys();
    paths.map(|path| path.replace("{agent_id}", "a").replace(['{', '}'], "").replace("request_id", id)).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn all_functions_or_some_are_served_by_one_process(owner: PgPool) {
    let all = Serving::start(&owner, &[]).await;
    for path in documented() {
        // Without a token: 401, or 405 where the path takes no GET, or the document itself. Never 404.
        assert_ne!(all.status(&path).await, Some(404), "{path}");
    }
    drop(all);
    let agents = Serving::start(&owner, &["--only", "ingest,poll"]).await;
    assert_eq!(agents.status("/v1/agents/a/decisions/poll").await, Some(401));
    for path in ["/v1/admin/agents", "/internal/timeout-sweep", "/"] {
        assert_eq!(agents.status(path).await, Some(404), "{path}");
    }
}
