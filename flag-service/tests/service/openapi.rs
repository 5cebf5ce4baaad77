//! What the API says of itself.

use std::path::Path;

use crate::support::Service;

#[tokio::test]
async fn the_committed_document_is_what_is_served() {
    let service = Service::start().await;
    let served = service.get("/openapi.json").await.ok();
    let text = format!("{served:#}\n");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == text, "docs/openapi.json differs; UPDATE_GOLDEN=1 rewrites it");
}
