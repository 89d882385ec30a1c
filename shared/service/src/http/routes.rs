//! A function's routes and their descriptions for the `OpenAPI` document.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;
use utoipa::openapi::{HttpMethod, OpenApi};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::dialect::{Dialect, Dialects};
use super::known::{Describe, KnownParameters};
use crate::needs::{DatabaseAuthority, Needs};
use crate::state::AppState;

/// Routes with their descriptions, which are made on demand only: making them is a third of what a
/// function does in its init phase on Lambda.
#[derive(Clone, Debug, Default)]
#[must_use = "routes do nothing until they are served"]
pub struct Routes {
    /// Each with the authority that its handlers act by.
    routers: Vec<(Option<DatabaseAuthority>, Router<AppState>)>,
    needs: Needs,
    /// Whose they are, for what is measured.
    function: &'static str,
    endpoints: Vec<Endpoint>,
    descriptions: Vec<(String, Describe)>,
    dialects: Vec<Dialect>,
}

/// A path and the function that answers there.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Its template.
    pub(crate) path: String,
    /// What it answers; none: any method.
    pub(crate) methods: Vec<Method>,
    /// Whose it is.
    pub(crate) function: &'static str,
}

impl Routes {
    /// No routes yet, of this function. See [`routes!`](crate::routes).
    pub fn of(function: &'static str) -> Self {
        Self { function, ..Self::default() }
    }

    /// Adds an operation: its path and methods, who answers them, and how to describe it. See
    /// [`routes!`](crate::routes).
    pub fn operation<H, T>(
        mut self,
        path: &str,
        methods: &[HttpMethod],
        handler: H,
        describe: fn() -> UtoipaMethodRouter<AppState>,
    ) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.descriptions.push((path.to_owned(), describe));
        let names = methods.iter().map(method).collect();
        self.endpoint(path, names, axum::routing::on(filter(methods), handler))
    }

    /// Adds a route that the document says nothing of.
    pub fn route(self, path: &str, methods: MethodRouter<AppState>) -> Self {
        self.endpoint(path, Vec::new(), methods)
    }

    fn endpoint(mut self, path: &str, names: Vec<Method>, methods: MethodRouter<AppState>) -> Self {
        self.endpoints.push(Endpoint { path: path.to_owned(), methods: names, function: self.function });
        let (authority, router) = self.routers.pop().unwrap_or_default();
        self.routers.push((authority, router.route(path, methods)));
        self
    }

    /// Says what the function of these routes needs, and by which authority it acts.
    pub fn needing(mut self, authority: DatabaseAuthority, needs: fn(Needs) -> Needs) -> Self {
        self.needs = self.needs.and(needs(Needs::of(authority)));
        for (of, _) in &mut self.routers {
            *of = Some(authority);
        }
        self
    }

    /// Says how failures of these routes are told, where a protocol of others asks for it.
    pub fn speaking(mut self, dialect: Dialect) -> Self {
        self.dialects.push(dialect);
        self
    }

    /// The dialects of these routes.
    pub(super) fn dialects(&self) -> Dialects {
        Dialects(self.dialects.clone())
    }

    /// What the functions of these routes need.
    #[must_use]
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// The path of every route, documented or not.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| endpoint.path.as_str())
    }

    /// The same with methods and functions.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Adds the routes of another.
    pub fn merge(mut self, other: Self) -> Self {
        self.endpoints.extend(other.endpoints);
        self.descriptions.extend(other.descriptions);
        self.routers.extend(other.routers);
        self.dialects.extend(other.dialects);
        Self { needs: self.needs.and(other.needs), ..self }
    }

    /// The document of these routes, on top of the common part.
    #[must_use]
    pub fn document(&self, of_all: OpenApi) -> OpenApi {
        let document = OpenApiRouter::with_openapi(of_all);
        self.descriptions.iter().fold(document, |document, (_, describe)| document.routes(describe())).into_openapi()
    }

    /// The query parameters that they know.
    pub(super) fn known_parameters(&self) -> KnownParameters {
        KnownParameters::of(&self.descriptions)
    }

    /// The routes, each over the connections of its own authority.
    pub(super) fn into_router(self, state: &AppState) -> Router {
        let of = |(authority, router): (Option<DatabaseAuthority>, Router<AppState>)| {
            router.with_state(authority.map_or_else(|| state.clone(), |authority| state.acting_by(authority)))
        };
        self.routers.into_iter().map(of).fold(Router::new(), Router::merge)
    }
}

fn method(described: &HttpMethod) -> Method {
    match described {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    }
}

/// Which of a route's methods an operation answers.
fn filter(methods: &[HttpMethod]) -> MethodFilter {
    use utoipa_axum::PathItemExt;
    let filters = methods.iter().map(PathItemExt::to_method_filter);
    filters.reduce(MethodFilter::or).expect("an operation has a method")
}

/// [`Routes`](crate::http::Routes) of handlers with `#[utoipa::path]`, each named in its module or as `module::handler`.
#[macro_export]
macro_rules! routes {
    ($($($name:ident)::+),+ $(,)?) => {{
        let routes = $crate::http::Routes::of(env!("CARGO_PKG_NAME"));
        $(let routes = $crate::routes!(@add routes, $($name)::+);)+
        routes
    }};
    (@add $routes:ident, $handler:ident) => { $crate::routes!(@add $routes, self::$handler) };
    (@add $routes:ident, $module:ident::$handler:ident) => {
        $crate::http::utoipa_axum::paste! {
            $routes.operation(
                &<$module::[<__path_ $handler>] as utoipa::Path>::path(),
                &<$module::[<__path_ $handler>] as utoipa::Path>::methods(),
                $module::$handler,
                || $crate::http::utoipa_axum::routes!($module::$handler),
            )
        }
    };
}
