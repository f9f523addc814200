//! What cannot be run is refused when it is deployed, with its place, and nothing is changed.

use http::StatusCode;
use serde_json::json;

use super::{programmed, set_up};

#[tokio::test]
async fn code_that_cannot_be_loaded_is_refused_with_its_place() {
    let setup = set_up().await;
    setup.deploy_one("a", "export default { fetch: () => new Response('first') };").await;
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("src/index.js", "export default {\n  fetch( {\n};")], "src/index.js:3:"),
        (
            &[
                ("src/index.js", "import './src/other.js';\nexport default {};"),
                ("src/other.js", "let x;\n\nx.y.z = 1;"),
            ],
            "src/other.js:3:",
        ),
        (&[("src/index.js", "import './none.js';\nexport default {};")], "none.js"),
        (&[("src/index.js", "for (;;);")], "Script startup exceeded CPU time limit."),
    ];
    for (modules, expected) in cases {
        setup.send(modules).await;
        let (status, answer) = setup.put(&programmed("a", modules, json!({}))).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert!(answer.to_string().contains(expected), "{expected}: {answer}");
    }
    assert_eq!(setup.ask("a", "/").await, (StatusCode::OK, "first".to_owned()));
    assert!(setup.processes().len() == 1, "those that code was tried in have ended");
}

#[tokio::test]
async fn content_that_is_not_there_is_named() {
    let setup = set_up().await;
    let app = programmed("a", &[("index.js", "export default {}; // never sent")], json!({}));
    let (status, answer) = setup.put(&app).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert!(answer.to_string().contains("program.modules"), "{answer}");
    let source = "export default { fetch: () => new Response('here') };";
    setup.deploy_one("a", source).await;
    // Lost after it was deployed, and before it was first read.
    let digest = berth_common::image::Digest::of(source.as_bytes()).to_string();
    let hex = digest.strip_prefix("sha256:").unwrap();
    let lost = find(&setup.site.state("files"), hex).expect("the file of the module");
    let bytes = std::fs::read(&lost).unwrap();
    std::fs::remove_file(&lost).unwrap();
    let (status, text) = setup.ask("a", "/").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.starts_with("the app's program cannot be loaded (error "), "{text}");
    assert!(setup.logged("a", "cannot be loaded").await.contains(&digest));
    std::fs::write(&lost, bytes).unwrap();
    assert_eq!(setup.ask("a", "/").await, (StatusCode::OK, "here".to_owned()));
}

/// A file whose name has this in it.
fn find(directory: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(directory).ok()?.find_map(|entry| {
        let path = entry.ok()?.path();
        match path.is_dir() {
            true => find(&path, name),
            false => path.file_name()?.to_str()?.contains(name).then_some(path),
        }
    })
}
