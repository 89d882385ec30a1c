//! A function's routes and their descriptions for the `OpenAPI` document.

use axum::Router;
use axum::routing::{MethodFilter, MethodRouter};
use utoipa::openapi::OpenApi;
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
    paths: Vec<String>,
    descriptions: Vec<(String, Describe)>,
    dialects: Vec<Dialect>,
}

impl Routes {
    /// Adds an operation: its path, who answers its methods, and how to describe it. See [`routes!`](crate::routes).
    pub fn operation(
        mut self,
        path: &str,
        methods: MethodRouter<AppState>,
        describe: fn() -> UtoipaMethodRouter<AppState>,
    ) -> Self {
        self.descriptions.push((path.to_owned(), describe));
        self.route(path, methods)
    }

    /// Adds a route that the document says nothing of.
    pub fn route(mut self, path: &str, methods: MethodRouter<AppState>) -> Self {
        self.paths.push(path.to_owned());
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
        self.paths.iter().map(String::as_str)
    }

    /// Adds the routes of another.
    pub fn merge(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
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

/// Which of a route's methods an operation answers.
#[must_use]
pub fn filter(methods: &[utoipa::openapi::HttpMethod]) -> MethodFilter {
    use utoipa_axum::PathItemExt;
    let filters = methods.iter().map(PathItemExt::to_method_filter);
    filters.reduce(MethodFilter::or).expect("an operation has a method")
}

/// [`Routes`](crate::http::Routes) of handlers with `#[utoipa::path]`, each named in its module or as `module::handler`.
#[macro_export]
macro_rules! routes {
    ($($($name:ident)::+),+ $(,)?) => {{
        let routes = $crate::http::Routes::default();
        $(let routes = $crate::routes!(@add routes, $($name)::+);)+
        routes
    }};
    (@add $routes:ident, $handler:ident) => { $crate::routes!(@add $routes, self::$handler) };
    (@add $routes:ident, $module:ident::$handler:ident) => {
        $crate::http::utoipa_axum::paste! {
            $routes.operation(
                &<$module::[<__path_ $handler>] as utoipa::Path>::path(),
                axum::routing::on(
                    $crate::http::filter(&<$module::[<__path_ $handler>] as utoipa::Path>::methods()),
                    $module::$handler,
                ),
                || $crate::http::utoipa_axum::routes!($module::$handler),
            )
        }
    };
}
