//! What the deployments say of routes, compared with what the functions serve.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use relaytrace_domain::Clock;
use relaytrace_domain::signing::attestation_jwk;
use relaytrace_service::AppState;
use relaytrace_service::config::Config;
use relaytrace_service::events::Publishing;
use relaytrace_service::http::Routes;
use relaytrace_service::http::{common_routes, service};
use relaytrace_testing::{NO_NATS, TestKey};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use utoipa::openapi::OpenApi;

/// Method and path.
type Route = (String, String);

const COMMON: [&str; 2] = ["/healthz", "/readyz"];
/// The page is not an API: the document does not describe it.
const PAGE: [&str; 3] = ["/", "/page/{file}", "/sw.js"];

/// Every answer to it is 200 (contract, "Claude Code").
const HOOK: &str = "/v1/hooks/claude-code";

fn functions() -> impl Iterator<Item = (&'static str, Routes)> {
    relaytrace_cli::Function::all().map(|function| (function.name(), function.routes()))
}

fn get(path: &str) -> Route {
    ("GET".into(), path.into())
}

/// The routes of an OpenAPI document.
fn documented(document: &Value) -> BTreeSet<Route> {
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("an item").keys();
        methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// Two lists of all routes tell nobody which one is forgotten: what `place` lacks of `served`, and what it has beyond it.
fn assert_same<T: Debug + Ord>(place: &str, found: impl IntoIterator<Item = T>, served: impl IntoIterator<Item = T>) {
    let (found, served): (BTreeSet<T>, BTreeSet<T>) = (found.into_iter().collect(), served.into_iter().collect());
    let lacks: Vec<_> = served.difference(&found).collect();
    let beyond: Vec<_> = found.difference(&served).collect();
    assert!(
        lacks.is_empty() && beyond.is_empty(),
        "{place} lacks {lacks:?}, and has {beyond:?}, which is not served so"
    );
}

/// Whose each route is, by the functions' own documents. `decide` has what is everybody's.
fn owners() -> BTreeMap<Route, String> {
    let mut owners = BTreeMap::new();
    for (name, router) in functions() {
        let document = serde_json::to_value(router.document(OpenApi::default())).expect("a document");
        owners.extend(documented(&document).into_iter().map(|route| (route, name.to_owned())));
    }
    owners.extend(COMMON.into_iter().chain(PAGE).map(|path| (get(path), "decide".to_owned())));
    owners
}

/// A function without servers: good enough to see what it serves.
fn alone(routes: Routes) -> Router {
    let key = TestKey::generate();
    let causes = ["operator", "timeout", "admin", "agent", "policy"];
    let jwk = attestation_jwk(&key.private_pem().into(), &causes).expect("a key");
    let variables = HashMap::from([
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none".to_owned()),
        ("NATS_URL", NO_NATS.to_owned()),
        ("DEPLOYMENT_NAME", "test".to_owned()),
        ("MASTER_SECRETS", format!("1:{}", "A".repeat(44))),
        ("RECEIPT_KEY", key.private_pem()),
        ("ATTESTATION_KEY", key.private_pem()),
        ("ATTESTATION_JWKS", json!({"keys": [jwk]}).to_string()),
        ("ISSUER", "https://issuer.test".to_owned()),
        ("ISSUER_JWKS", json!({"keys": [key.jwk("issuer-key")]}).to_string()),
    ]);
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let config = Config::from_variables(variables, routes.needs()).expect("a configuration");
    let state = AppState::new(config, &Clock::system(), Publishing::Behind);
    service(routes.merge(common_routes()), state)
}

async fn status(router: &Router, (method, path): &Route) -> StatusCode {
    let path = path.replace("{file}", "app.js").replace(['{', '}'], "");
    let request = Request::builder().method(method.as_str()).uri(path).body(Body::empty()).expect("a request");
    router.clone().oneshot(request).await.expect("an answer").status()
}

#[tokio::test]
async fn each_function_serves_its_routes_and_no_others() {
    let owners = owners();
    for (name, routes) in functions() {
        let router = alone(routes);
        for (route, owner) in &owners {
            let is_ours = owner == name || COMMON.contains(&route.1.as_str());
            let status = status(&router, route).await;
            let is_served = status != StatusCode::NOT_FOUND && status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_served, is_ours, "{name} answers {status} to {route:?}");
        }
    }
}

/// Routes that strangers get an answer from, among all that a router serves: also those that no document names.
async fn open_to_strangers(routes: Routes) -> BTreeSet<Route> {
    let paths: BTreeSet<String> = routes.paths().chain(COMMON).map(str::to_owned).collect();
    let router = alone(routes);
    let mut open = BTreeSet::new();
    for path in paths {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let route = (method.to_owned(), path.clone());
            let status = status(&router, &route).await;
            // A harness takes a refusal for "go on": it is told to deny instead.
            let is_denied = route == ("POST".to_owned(), HOOK.to_owned()) && status == StatusCode::OK;
            if !is_denied && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::METHOD_NOT_ALLOWED) {
                open.insert(route);
            }
        }
    }
    open
}

#[tokio::test]
async fn every_route_of_the_routers_refuses_strangers_but_the_public_ones() {
    let public = ["/openapi.json", "/.well-known/jwks.json"].into_iter().chain(COMMON).chain(PAGE);
    let public: BTreeSet<Route> =
        public.flat_map(|path| ["GET", "HEAD"].map(|method| (method.to_owned(), path.to_owned()))).collect();
    let mut open = BTreeSet::new();
    for (_, routes) in functions() {
        open.extend(open_to_strangers(routes).await);
    }
    assert_eq!(open, public);
    // One that no document names is found.
    let (_, routes) = functions().next().expect("a function");
    let forgotten = routes.route("/v1/admin/forgotten", axum::routing::post(async || "open"));
    assert!(open_to_strangers(forgotten).await.contains(&("POST".to_owned(), "/v1/admin/forgotten".to_owned())));
}

#[test]
fn the_document_has_every_functions_routes() {
    let text = std::fs::read_to_string("../contract/openapi.json").expect("the document");
    let document = serde_json::from_str(&text).expect("JSON");
    let served = owners().into_keys().filter(|(_, path)| !PAGE.contains(&path.as_str()));
    assert_same("contract/openapi.json (`make generate` writes it)", documented(&document), served);
}

/// Whose each route of an API is, by template.yaml.
fn in_template(api: &str) -> BTreeMap<Route, String> {
    let text = std::fs::read_to_string("../template.yaml").expect("the template");
    let template: serde_norway::Value = serde_norway::from_str(&text).expect("YAML");
    let mut routes = BTreeMap::new();
    for (_, resource) in template["Resources"].as_mapping().expect("resources") {
        let command = &resource["Properties"]["ImageConfig"]["Command"][0];
        let Some(events) = resource["Properties"]["Events"].as_mapping() else { continue };
        let name = command.as_str().and_then(|path| path.strip_prefix("/functions/")).expect("a command");
        for (_, event) in events {
            let properties = &event["Properties"];
            // `!Ref` is a tag of the value.
            let of_api = matches!(&properties["ApiId"], serde_norway::Value::Tagged(tagged) if tagged.value == api);
            if event["Type"] == "HttpApi" && of_api {
                let text = |name: &str| properties[name].as_str().expect("a text").to_owned();
                let known = routes.insert((text("Method"), text("Path")), name.to_owned());
                assert_eq!(known, None, "{properties:?} is there twice");
            }
        }
    }
    routes
}

#[test]
fn the_template_has_the_functions_routes_and_keeps_internal_ones_off_the_public_api() {
    let is_internal = |(_, path): &Route| path.starts_with("/internal/") || path.starts_with("/v1/admin/");
    let (internal, mut public): (BTreeMap<_, _>, BTreeMap<_, _>) =
        owners().into_iter().partition(|(route, _)| is_internal(route));
    public.insert(("ANY".into(), "$default".into()), "decide".into());
    assert_same("PublicApi of template.yaml", in_template("PublicApi"), public);
    assert_same("InternalApi of template.yaml", in_template("InternalApi"), internal);
}

#[test]
fn the_emulator_sends_each_route_to_its_function() {
    let text = std::fs::read_to_string("../Cargo.toml").expect("the manifest");
    let manifest: toml::Table = text.parse().expect("TOML");
    let router = manifest["workspace"]["metadata"]["lambda"]["watch"]["router"].as_table().expect("a router");
    let mut owners = owners();
    let paths: BTreeSet<&str> = owners.keys().map(|(_, path)| path.as_str()).chain(["/{*rest}"]).collect();
    assert_same("the emulator's router of Cargo.toml", router.keys().map(String::as_str), paths);
    for (path, target) in router {
        let methods: Vec<_> = owners.keys().filter(|route| route.1 == *path).cloned().collect();
        for route in methods {
            let of_method = |entry: &&toml::Value| entry["method"].as_str() == Some(&route.0);
            let function = match target.as_array() {
                Some(entries) => entries.iter().find(of_method).map(|entry| &entry["function"]),
                None => Some(target),
            };
            assert_eq!(function.and_then(toml::Value::as_str), owners.remove(&route).as_deref(), "{route:?}");
        }
    }
    assert!(owners.is_empty(), "{owners:?}");
}

#[test]
fn the_guide_has_every_variable_as_the_code_describes_it() {
    let rows = |text: &str| -> BTreeMap<String, String> {
        let row = |line: &str| {
            let cells: Vec<_> = line.trim_start_matches("//! ").trim_matches('|').split('|').map(str::trim).collect();
            cells.first()?.starts_with('`').then(|| (cells[0].to_owned(), cells.get(1).unwrap_or(&"").to_string()))
        };
        text.lines().filter_map(row).collect()
    };
    let code = rows(&std::fs::read_to_string("../shared/service/src/config.rs").expect("the code"));
    let guide = std::fs::read_to_string("../docs/guides/deploy.md").expect("the guide");
    let (_, variables) = guide.split_once("## Variables").expect("a section");
    let guide = rows(variables.split("\n## ").next().expect("a section"));
    assert!(code.len() > 20);
    for (name, meaning) in code {
        let said = guide.get(&name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(said.starts_with(&meaning), "{name}: {said:?} does not begin with {meaning:?}");
    }
}
