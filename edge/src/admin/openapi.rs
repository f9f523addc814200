//! The OpenAPI description of this API. `docs/openapi.json` is a copy; a test compares them.

use std::sync::LazyLock;

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use super::problem::Denied;

/// The parts of the document besides the resources.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Berth admin API",
        description = "Objects, containers, apps, nodes and tokens of one edge. On the edge's Unix socket for its own user and \
                       root; over TLS with a bearer token, whose scope is read, deploy or admin.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    security(("token" = []))
)]
struct Frame;

static DOCUMENT: LazyLock<Document> = LazyLock::new(document);

/// The whole document.
fn document() -> Document {
    let mut document = Frame::openapi();
    document.merge(super::router().into_openapi());
    let components = document.components.get_or_insert_with(Default::default);
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document
}

/// Returns this description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "edge", responses((status = 200, body = serde_json::Value), Denied))]
pub(super) async fn show() -> Json<&'static Document> {
    Json(&DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// With BERTH_BLESS=1, writes the file instead of failing.
    #[test]
    fn the_document_that_is_checked_in_is_that_of_the_code() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let text = format!("{}\n", super::document().to_pretty_json().unwrap());
        if std::env::var_os("BERTH_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let known = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            known == text,
            "docs/openapi.json is not what the code says: BERTH_BLESS=1 cargo test writes it"
        );
    }
}
