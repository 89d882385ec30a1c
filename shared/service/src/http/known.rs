//! The known query parameters of a route, from its description (contract, "Conventions").
//!
//! An unknown parameter is refused, because ignoring it would answer another question: `?form=2026-11-01` would give
//! everything.

use std::collections::HashMap;
use std::sync::OnceLock;

use http::Method;
use url::form_urlencoded;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa_axum::router::UtoipaMethodRouter;

use crate::state::AppState;
use relaytrace_domain::Faults;

/// A search for nothing finds everything; any other parameter that is given is given a value.
const MAY_BE_EMPTY: &str = "q";

/// What describes an operation.
pub(super) type Describe = fn() -> UtoipaMethodRouter<AppState>;

/// The parameters of each route. They are worked out for the first call that has any: descriptions are not made in the
/// init phase.
#[derive(Debug, Default)]
pub(super) struct KnownParameters(HashMap<String, OfPath>);

#[derive(Debug, Default)]
struct OfPath {
    describe: Vec<Describe>,
    names: OnceLock<Vec<(Method, Vec<String>)>>,
}

impl KnownParameters {
    pub(super) fn of(described: &[(String, Describe)]) -> Self {
        let mut paths = HashMap::<_, OfPath>::new();
        for (path, describe) in described {
            paths.entry(path.clone()).or_default().describe.push(*describe);
        }
        Self(paths)
    }

    /// Faults of the names and values of a query, before their meaning is looked at.
    pub(super) fn faults(&self, route: &str, method: &Method, query: &str) -> Faults {
        let mut faults = Faults::default();
        let names = self.0.get(route).and_then(|path| path.names(method)).unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !names.iter().any(|known| *known == name) {
                let known = if names.is_empty() {
                    "none is known here".into()
                } else {
                    format!("known are {}", names.join(", "))
                };
                faults.add_at(&name, format!("is not a known parameter; {known}"));
            } else if value.is_empty() && name != MAY_BE_EMPTY {
                faults.add_at(&name, "must not be empty");
            } else if value.contains('\0') {
                faults.add_at(&name, "contains U+0000");
            }
        }
        faults
    }
}

impl OfPath {
    fn names(&self, method: &Method) -> Option<&[String]> {
        let of_methods =
            self.names.get_or_init(|| self.describe.iter().flat_map(|describe| names(*describe)).collect());
        of_methods.iter().find(|(of, _)| of == method).map(|(_, names)| names.as_slice())
    }
}

fn names(describe: Describe) -> Vec<(Method, Vec<String>)> {
    let (_, paths, _) = describe();
    paths.paths.into_values().flat_map(operations).map(|(method, operation)| (method, query_of(operation))).collect()
}

fn operations(item: PathItem) -> impl Iterator<Item = (Method, Operation)> {
    let operations = [
        (Method::GET, item.get),
        (Method::POST, item.post),
        (Method::PUT, item.put),
        (Method::PATCH, item.patch),
        (Method::DELETE, item.delete),
    ];
    operations.into_iter().filter_map(|(method, operation)| Some((method, operation?)))
}

fn query_of(operation: Operation) -> Vec<String> {
    let parameters = operation.parameters.into_iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    });
    parameters
        .filter(|parameter| matches!(parameter.parameter_in, ParameterIn::Query))
        .map(|parameter| parameter.name)
        .collect()
}
