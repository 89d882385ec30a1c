//! What is refused, what is taken, and that no value is printed.

use base64::prelude::{BASE64_STANDARD, Engine};
use relaytrace_domain::Cause;
use relaytrace_domain::signing::attestation_jwk;
use serde_json::json;

use super::values::origin;
use super::*;

const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn faults(variables: &[(&str, &str)]) -> Vec<String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let needs = Needs::of(DatabaseAuthority::People).receipts().responses().causes(&[Cause::Operator]);
    Config::from_variables(variables, &needs).unwrap_err().0
}

#[test]
fn all_faults_are_reported_together() {
    let found = faults(&[
        ("PORT", "x"),
        ("ISSUER", "http://issuer"),
        ("TOKEN_LEEWAY_SECONDS", "31"),
        ("NATS_URL", "nats://one:4222,nats://two:port"),
        ("ALLOW_AUTO_APPROVE", "perhaps"),
    ]);
    let names: Vec<_> = found.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
    for name in [
        "DATABASE_URL",
        "NATS_URL",
        "DEPLOYMENT_NAME",
        "MASTER_SECRETS",
        "RECEIPT_KEY",
        "ATTESTATION_KEY",
        "ATTESTATION_JWKS",
        "ISSUER",
        "PORT",
        "TOKEN_LEEWAY_SECONDS",
        "ALLOW_AUTO_APPROVE",
    ] {
        assert!(names.contains(&name), "{name} is not among {found:?}");
    }
}

fn private_key() -> String {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
    pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8.as_ref()))
}

#[test]
fn an_attestation_key_must_be_listed_for_what_its_function_decides() {
    let key = private_key();
    let jwks = |causes| json!({"keys": [attestation_jwk(&key.clone().into(), causes).unwrap()]}).to_string();
    let others = attestation_jwk(&private_key().into(), &["operator"]).unwrap();
    let about = |key: &str, jwks: &str| {
        let found = faults(&[("ATTESTATION_KEY", key), ("ATTESTATION_JWKS", jwks)]);
        found.into_iter().filter(|fault| fault.contains("ATTESTATION")).collect::<Vec<_>>()
    };
    assert_eq!(about(&key, &jwks(&["operator"])), [""; 0]);
    let of_another = about(&key, &jwks(&["timeout"]));
    assert_eq!(of_another, ["ATTESTATION_KEY holds no key that ATTESTATION_JWKS lists for the cause operator"]);
    let unlisted = about(&key, &json!({"keys": [others]}).to_string());
    assert_eq!(unlisted, ["ATTESTATION_KEY holds a key that ATTESTATION_JWKS does not list"]);
    assert_eq!(about("no key", &jwks(&["operator"])).len(), 1);
    assert_eq!(about(&key, "{}"), ["ATTESTATION_JWKS is not a JWK set"]);
}

#[test]
fn a_function_needs_its_own_secrets_and_no_others() {
    let given = HashMap::from(
        [
            ("DATABASE_URL_OPS", "postgres://ops@h/d"),
            ("NATS_URL", "nats://h"),
            ("DEPLOYMENT_NAME", "d"),
            ("ISSUER", "https://i"),
            ("ISSUER_JWKS", KEYS),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let config = Config::from_variables(given.clone(), &Needs::of(DatabaseAuthority::Ops)).unwrap();
    assert!(config.authorities.contains_key(&DatabaseAuthority::Ops) && config.database.get_username() == "ops");
    let of_agents = Config::from_variables(given, &Needs::of(DatabaseAuthority::Agent)).unwrap_err().0;
    assert_eq!(of_agents, ["DATABASE_URL is required, or instead of it DATABASE_URL_AGENT"]);
}

/// What a deployment sets, with these changes.
fn configured(changes: &[(&str, &str)]) -> Result<Config, ConfigFaults> {
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    let masters = format!("m:{}", BASE64_STANDARD.encode([7; 32]));
    let all = [
        ("DATABASE_URL", "postgres://user@host/database"),
        ("NATS_URL", "nats://host"),
        ("DEPLOYMENT_NAME", "name"),
        ("MASTER_SECRETS", &masters),
        ("RECEIPT_KEY", KEY),
        ("ISSUER", "https://idp"),
        ("ISSUER_JWKS", KEYS),
    ];
    let variables = all.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_variables(variables.collect(), &Needs::of(DatabaseAuthority::Ops))
}

#[test]
fn white_space_around_a_value_does_not_count_and_none_is_within_what_is_compared() {
    let config = configured(&[("ISSUER", "https://idp\n"), ("TOKEN_AUDIENCE", " relaytrace "), ("PORT", "9000\n")]);
    let config = config.expect("a configuration");
    assert!(config.issuers.of("https://idp").is_some());
    assert_eq!(config.token_rules.audience, "relaytrace");
    assert_eq!(config.listen.1, 9_000);
    for (name, value) in
        [("ISSUER", "https://i\ndp"), ("TOKEN_AUDIENCE", "relay\ntrace"), ("DEPLOYMENT_NAME", "a\tb"), ("ISSUER", " ")]
    {
        let faults = configured(&[(name, value)]).expect_err("refused").0;
        assert!(faults.iter().any(|fault| fault.starts_with(name)), "{name}: {faults:?}");
    }
}

#[test]
fn logins_that_cannot_be_used_are_found_at_the_start() {
    assert!(configured(&[("NATS_URL", "nats://user:p%40ss@host")]).is_ok());
    for changes in [
        [("NATS_URL", "nats://user:%ff@host"), ("PORT", "1")],
        [("NATS_CREDENTIALS", "no credentials"), ("PORT", "1")],
        [("ISSUER_JWKS", r#"{"keys":[{"kty":"new"}]}"#), ("PORT", "1")],
        [("ROLES_CLAIM", "roles"), ("PORT", "1")],
    ] {
        let faults = configured(&changes).expect_err("refused").0;
        assert!(faults.iter().any(|fault| fault.starts_with(changes[0].0)), "{faults:?}");
        assert!(!faults.iter().any(|fault| fault.contains("no credentials") || fault.contains("%ff")), "{faults:?}");
    }
}

#[test]
fn only_whole_and_safe_origins_are_taken() {
    for good in ["https://page.example.org", "https://page.example.org:8443", "http://127.0.0.1:9000"] {
        assert_eq!(origin(good).unwrap(), good);
    }
    for bad in [
        "*",
        "null",
        "page.example.org",
        "http://page.example.org",
        "https://page.example.org/",
        "https://page.example.org/page",
        "https://*.example.org",
        "https://PAGE.example.org",
        "https://page.example.org:443",
        "https://someone@page.example.org",
    ] {
        assert!(origin(bad).is_err(), "{bad}");
    }
    let found = faults(&[("CORS_ALLOWED_ORIGINS", "https://page.example.org, *")]);
    assert!(found.iter().any(|fault| fault.starts_with("CORS_ALLOWED_ORIGINS must be origins")), "{found:?}");
}

#[test]
fn short_secrets_and_plain_http_are_refused_and_no_value_is_printed() {
    let secret = BASE64_STANDARD.encode("sixteen bytes!!!");
    let master = format!("1:{secret}");
    let found = faults(&[("MASTER_SECRETS", &master), ("ISSUER", "https://i"), ("ISSUER_JWKS_URL", "http://i/jwks")]);
    assert!(found.iter().any(|fault| fault.starts_with("MASTER_SECRETS holds a secret")), "{found:?}");
    assert!(found.iter().any(|fault| fault.starts_with("ISSUER_JWKS_URL must be an https URL")), "{found:?}");
    assert!(!found.iter().any(|fault| fault.contains(&secret)), "{found:?}");
}

#[test]
fn how_others_are_reached_is_checked_at_the_start_and_its_secrets_only_where_they_are_needed() {
    let given = [
        ("CHANNEL_KEY", "c2hvcnQ="),
        ("EGRESS_ALLOW", "*.example.org"),
        ("PAGE_URL", "http://page.example.org/?id=1"),
        ("SMTP_URL", "smtp://user:password@mail.example.org"),
        ("SMTP_FROM", "nobody"),
    ];
    let about = |needs: &Needs, given: &[(&str, &str)]| {
        let variables = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let found = Config::from_variables(variables, needs).unwrap_err().0;
        let ours = ["CHANNEL", "EGRESS", "PAGE", "SMTP"];
        let is_ours = |fault: &String| ours.iter().any(|name| fault.starts_with(name));
        found.into_iter().filter(is_ours).map(|fault| fault.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let needs = Needs::of(DatabaseAuthority::Ops).channels().mail();
    assert_eq!(about(&needs, &given), ["EGRESS_ALLOW", "PAGE_URL", "CHANNEL_KEY", "SMTP_FROM", "SMTP_URL"]);
    assert_eq!(about(&Needs::of(DatabaseAuthority::Agent), &given), ["EGRESS_ALLOW", "PAGE_URL"]);
    assert_eq!(about(&needs, &[("SMTP_URL", "smtps://mail.example.org")]), ["SMTP_FROM"]);
    let good = [
        ("CHANNEL_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("EGRESS_ALLOW", "http://127.0.0.1, 10.0.0.0/8"),
        ("PAGE_URL", "https://page.example.org/relay/"),
        ("SMTP_URL", "smtps://user:password@mail.example.org"),
        ("SMTP_FROM", "RelayTrace <relay@example.org>"),
    ];
    assert_eq!(about(&needs, &good), [""; 0]);
}

#[test]
fn traces_and_scrapes_are_off_until_they_are_named() {
    let read = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut read = Reader { variables, faults: Vec::new() };
        (read.traces(), read.metrics().map(|address| address.to_string()), read.faults)
    };
    assert_eq!(read(&[]), (None, None, vec![]));
    let (traces, metrics, _) =
        read(&[("METRICS_PORT", "9464"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")]);
    assert_eq!(metrics.as_deref(), Some("127.0.0.1:9464"));
    let endpoint = "http://collector:4318/v1/traces".to_owned();
    assert_eq!(traces, Some(TraceSettings { endpoint, follows_caller: true, share: 1.0 }));
    let sampled = |sampler: &str| {
        let given = [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/own"),
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
        ];
        read(&given).0.map(|traces| (traces.endpoint, traces.follows_caller, traces.share))
    };
    assert_eq!(sampled("parentbased_traceidratio"), Some(("https://c/own".into(), true, 0.01)));
    assert_eq!(sampled("traceidratio"), Some(("https://c/own".into(), false, 0.01)));
    assert_eq!(sampled("always_off"), Some(("https://c/own".into(), false, 0.0)));
    let bad = [
        ("METRICS_PORT", "70000"),
        ("METRICS_ADDRESS", "localhost"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ];
    assert_eq!(read(&bad).2.len(), bad.len());
}
