//! A function's routes, and what the `OpenAPI` document says of them.

use axum::Router;
use axum::routing::{MethodFilter, MethodRouter};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::known::{Describe, KnownParameters};
use crate::state::AppState;

/// Routes that know how they are described. Descriptions are made only for who asks: making them is a third of what a
/// function does in its init phase on Lambda.
#[derive(Clone, Debug, Default)]
#[must_use = "routes do nothing until they are served"]
pub struct Routes {
    router: Router<AppState>,
    descriptions: Vec<(String, Describe)>,
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
    pub fn route(self, path: &str, methods: MethodRouter<AppState>) -> Self {
        Self { router: self.router.route(path, methods), ..self }
    }

    /// Adds the routes of another.
    pub fn merge(mut self, other: Self) -> Self {
        self.descriptions.extend(other.descriptions);
        Self { router: self.router.merge(other.router), ..self }
    }

    /// The document of these routes, upon what is said of all.
    #[must_use]
    pub fn document(&self, of_all: OpenApi) -> OpenApi {
        let document = OpenApiRouter::with_openapi(of_all);
        self.descriptions.iter().fold(document, |document, (_, describe)| document.routes(describe())).into_openapi()
    }

    /// The query parameters that they know.
    pub(super) fn known_parameters(&self) -> KnownParameters {
        KnownParameters::of(&self.descriptions)
    }

    pub(super) fn into_router(self) -> Router<AppState> {
        self.router
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
