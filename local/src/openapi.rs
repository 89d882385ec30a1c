//! The OpenAPI document of all functions together.

use relaytrace_cli::Function;
use relaytrace_service::http::Routes;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

/// The common part of the document.
#[derive(OpenApi)]
#[openapi(info(
    title = "RelayTrace",
    description = "Carries an agent's question to a person and the answer back: durably, exactly one decision, in \
                   time, signed, with a trace that anyone can verify later.",
    license(name = "Apache-2.0", identifier = "Apache-2.0"),
))]
struct Description;

/// All routes.
pub fn routes() -> Routes {
    relaytrace_cli::routes(Function::all()).merge(relaytrace_service::http::common_routes())
}

/// The document, as it is committed and served.
pub fn document() -> anyhow::Result<String> {
    let mut document = routes().document(Description::openapi());
    let components = document.components.get_or_insert_default();
    for (name, description) in [
        ("agent", "A token that the agent signs itself, EdDSA or ES256, at most 15 minutes long"),
        ("operator", "A token of the deployment's issuer with the role operator"),
        ("admin", "A token of the deployment's issuer with the role admin"),
        ("owner", "A token of an issuer that may name owners, with the role owner"),
    ] {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        components.add_security_scheme(name, SecurityScheme::Http(bearer.description(Some(description)).build()));
    }
    Ok(document.to_pretty_json()?)
}
