//! `GET /api/v1/openapi.json`: the description of the API.

use axum::Json;
use std::sync::LazyLock;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};

/// The API's description, made once.
static DESCRIPTION: LazyLock<OpenApi> = LazyLock::new(super::description);

/// Describes the API by OpenAPI 3.1.
#[utoipa::path(get, path = "/api/v1/openapi.json", security(()), responses((status = 200, body = serde_json::Value)))]
pub async fn describe() -> Json<OpenApi> {
    Json(DESCRIPTION.clone())
}

/// The description before any route is added to it: title, version and the bearer token.
pub fn base() -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    let components = ComponentsBuilder::new()
        .security_scheme("token", SecurityScheme::Http(bearer))
        .build();
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Countersign").version("1").build())
        .components(Some(components))
        .security(Some([SecurityRequirement::new("token", [""; 0])]))
        .build()
}
