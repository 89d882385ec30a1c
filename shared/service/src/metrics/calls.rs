//! Calls by function, route and status. The series are bounded: a route is a template, and what no route has is one more.

use std::array;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use relaytrace_store::{CALL_SECONDS, Histogram};

use crate::http::Endpoint;

/// Statuses that calls end with, in ascending order; another one is counted as `other`.
const STATUSES: [u16; 28] = [
    200, 201, 202, 204, 206, 303, 304, 400, 401, 403, 404, 405, 406, 408, 409, 410, 412, 413, 415, 421, 422, 428, 429,
    431, 500, 502, 503, 504,
];

/// The label of what no route has.
const UNMATCHED: &str = "none";
/// The function of what every process serves, where it serves several functions.
const EVERYBODYS: &str = "relaytrace";

/// What calls of one router took.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    routes: HashMap<String, Vec<Series>>,
    unmatched: Series,
    keeps: bool,
}

/// The calls of one function at one route.
#[derive(Debug)]
struct Series {
    /// None: any.
    methods: Vec<Method>,
    function: &'static str,
    route: String,
    /// As in [`STATUSES`], and at last the others. Each is made when it is first needed.
    by_status: [OnceLock<Histogram>; STATUSES.len() + 1],
}

impl Default for Series {
    fn default() -> Self {
        Self::new(EVERYBODYS, UNMATCHED, Vec::new())
    }
}

impl Series {
    fn new(function: &'static str, route: &str, methods: Vec<Method>) -> Self {
        Self { methods, function, route: route.to_owned(), by_status: array::from_fn(|_| OnceLock::new()) }
    }
}

impl Calls {
    /// None yet, of a router with these endpoints. With `keeps` their times can be taken.
    pub(super) fn new(endpoints: &[Endpoint], keeps: bool) -> Self {
        let is_own = |endpoint: &&Endpoint| endpoint.function != env!("CARGO_PKG_NAME");
        let mut functions = endpoints.iter().filter(is_own).map(|endpoint| endpoint.function);
        let first = functions.next().unwrap_or(EVERYBODYS);
        // What is everybody's belongs to the only function, where there is one.
        let common = if functions.all(|function| function == first) { first } else { EVERYBODYS };
        let mut routes: HashMap<String, Vec<Series>> = HashMap::new();
        for endpoint in endpoints {
            let function = if is_own(&endpoint) { endpoint.function } else { common };
            let of_route = routes.entry(endpoint.path.clone()).or_default();
            match of_route.iter_mut().find(|series| series.function == function) {
                Some(series) => series.methods.extend(endpoint.methods.iter().cloned()),
                None => of_route.push(Series::new(function, &endpoint.path, endpoint.methods.clone())),
            }
        }
        Self { routes, unmatched: Series::new(common, UNMATCHED, Vec::new()), keeps }
    }

    /// A call has ended.
    pub(crate) fn observe(&self, route: Option<&str>, method: &Method, status: StatusCode, time: Duration) {
        let of_route = route.and_then(|route| self.routes.get(route));
        let series = of_route.and_then(|of_route| {
            // A method that nobody answers is refused by the route, whoever has it.
            of_route.iter().find(|series| series.methods.contains(method)).or(of_route.first())
        });
        let at = STATUSES.binary_search(&status.as_u16()).unwrap_or(STATUSES.len());
        let histogram = &series.unwrap_or(&self.unmatched).by_status[at];
        histogram.get_or_init(|| Histogram::new(CALL_SECONDS, self.keeps)).observe_time(time);
    }

    /// Function, route and status, and what such calls took: those that there were.
    pub(super) fn each(&self) -> impl Iterator<Item = ([String; 3], &Histogram)> {
        let all = self.routes.values().flatten().chain([&self.unmatched]);
        all.flat_map(|series| {
            series.by_status.iter().enumerate().filter_map(|(at, histogram)| {
                let status = STATUSES.get(at).map_or_else(|| "other".to_owned(), u16::to_string);
                Some(([series.function.to_owned(), series.route.clone(), status], histogram.get()?))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(3);

    fn endpoint(path: &str, methods: &[Method], function: &'static str) -> Endpoint {
        Endpoint { path: path.to_owned(), methods: methods.to_vec(), function }
    }

    /// Labels of the calls that were counted, with their number.
    fn counted(calls: &Calls) -> Vec<(String, u64)> {
        let mut counted: Vec<_> =
            calls.each().map(|(labels, histogram)| (labels.join(" "), histogram.seen().count)).collect();
        counted.sort();
        counted
    }

    #[test]
    fn a_call_counts_for_the_function_of_its_method_and_never_by_its_path() {
        let common = endpoint("/readyz", &[Method::GET], env!("CARGO_PKG_NAME"));
        let path = "/v1/hitl/requests";
        let all = [endpoint(path, &[Method::POST], "ingest"), endpoint(path, &[Method::GET], "decide"), common.clone()];
        let calls = Calls::new(&all, false);
        for (method, status) in [(Method::POST, 201), (Method::POST, 201), (Method::GET, 200), (Method::PUT, 405)] {
            calls.observe(Some(path), &method, StatusCode::from_u16(status).unwrap(), TIME);
        }
        calls.observe(Some("/readyz"), &Method::GET, StatusCode::OK, TIME);
        let odd = Method::from_bytes(b"BREW").unwrap();
        calls.observe(None, &odd, StatusCode::IM_A_TEAPOT, TIME);
        let expected = [
            ("decide /v1/hitl/requests 200", 1),
            ("ingest /v1/hitl/requests 201", 2),
            ("ingest /v1/hitl/requests 405", 1),
            ("relaytrace /readyz 200", 1),
            ("relaytrace none other", 1),
        ];
        assert_eq!(counted(&calls), expected.map(|(labels, count)| (labels.to_owned(), count)));
        // Alone, everything is its own.
        let calls = Calls::new(&[endpoint(path, &[Method::POST], "ingest"), common], false);
        calls.observe(Some("/readyz"), &Method::GET, StatusCode::OK, TIME);
        calls.observe(None, &Method::GET, StatusCode::NOT_FOUND, TIME);
        let expected = [("ingest /readyz 200", 1), ("ingest none 404", 1)];
        assert_eq!(counted(&calls), expected.map(|(labels, count)| (labels.to_owned(), count)));
    }

    #[test]
    fn statuses_are_in_order_and_hold_those_of_every_failure() {
        assert!(STATUSES.is_sorted());
        for failure in relaytrace_domain::failure::Failure::all() {
            if let Some(answer) = failure.answer() {
                assert!(STATUSES.contains(&answer.status), "{failure:?}");
            }
        }
    }
}
