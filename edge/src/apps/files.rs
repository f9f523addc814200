//! Checks the files that an app names by digest at deployment: they are here, within the bounds of an app, and stay until
//! the version is stored.

use std::collections::{HashMap, HashSet};

use berth_common::image::Digest;
use berth_common::spec::{
    AppSpec, ContentField, MAX_APP_CONTENT_BYTES, MAX_PROGRAM_BYTES, MAX_SOURCE_MAP_BYTES,
};
use berth_registry::files::{Files, FilesError};

use super::Fault;

/// Most files that are named one by one where they are not here.
const MAX_NAMED: usize = 100;

/// Claims all files of an app. Returns what is wrong.
pub(super) async fn claim(files: &Files, spec: &AppSpec) -> Result<Vec<Fault>, FilesError> {
    let named: HashSet<Digest> = spec.content().map(|(_, digest)| *digest).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let lengths = files.claim(named).await?;
    let mut faults = missing(spec, &lengths);
    faults.extend(too_large(spec, &lengths));
    Ok(faults)
}

fn missing(spec: &AppSpec, lengths: &HashMap<Digest, u64>) -> Vec<Fault> {
    let missing: Vec<_> = spec.content().filter(|(_, digest)| !lengths.contains_key(digest)).collect();
    let fault = |(field, digest): &(ContentField, &Digest)| Fault {
        field: field.to_string(),
        message: format!("there is no file {digest} here: send it first (`berth deploy` does)"),
    };
    let mut faults: Vec<Fault> = missing.iter().take(MAX_NAMED).map(fault).collect();
    if let Some(more) = missing.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        let message = format!("{more} more files are not here");
        faults.push(Fault { field: missing[MAX_NAMED].0.to_string(), message });
    }
    faults
}

/// The bounds of one app. Modules are in memory each, also where several have the same content; on disk each file is there once.
fn too_large(spec: &AppSpec, lengths: &HashMap<Digest, u64>) -> Vec<Fault> {
    let of_modules = spec.content().filter(|(field, _)| matches!(field, ContentField::Module(_)));
    let modules: u64 = of_modules.filter_map(|(_, digest)| lengths.get(digest)).sum();
    let all: u64 = lengths.values().sum();
    let mut faults = Vec::new();
    if modules > MAX_PROGRAM_BYTES {
        let message =
            format!("take {modules} bytes; at most {MAX_PROGRAM_BYTES} are allowed for all together");
        faults.push(Fault { field: "program.modules".to_owned(), message });
    }
    let maps = spec.content().filter(|(field, _)| matches!(field, ContentField::SourceMap(_)));
    let lengths = maps.filter_map(|(field, digest)| Some((field, *lengths.get(digest)?)));
    for (field, length) in lengths.filter(|(_, length)| *length > MAX_SOURCE_MAP_BYTES).take(MAX_NAMED) {
        let message =
            format!("takes {length} bytes; at most {MAX_SOURCE_MAP_BYTES} are allowed for a source map");
        faults.push(Fault { field: field.to_string(), message });
    }
    if all > MAX_APP_CONTENT_BYTES {
        let message =
            format!("the files of the app take {all} bytes; at most {MAX_APP_CONTENT_BYTES} are allowed");
        faults.push(Fault { field: String::new(), message });
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use berth_common::spec::{Program, ProgramModule};
    use berth_store::SledStore;
    use berth_store::fixtures::app;

    use super::*;

    fn programmed(digests: &[Digest]) -> AppSpec {
        let mut spec = app("a", &[]);
        let text = r#"{"entry": "0", "modules": [], "compatibility_date": "2026-01-31"}"#;
        let modules = digests.iter().enumerate().map(|(index, digest)| ProgramModule {
            name: index.to_string(),
            digest: *digest,
            map: None,
            imports: Default::default(),
        });
        spec.program = Some(Program { modules: modules.collect(), ..serde_json::from_str(text).unwrap() });
        spec
    }

    #[tokio::test]
    async fn what_is_not_here_is_named_with_its_field() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(&directory.path().join("store")).unwrap());
        let files = Files::open(&directory.path().join("files"), store).unwrap();
        let (here, none) = (files.put(b"x".to_vec()).await.unwrap(), Digest::of(b"none"));
        let faults = claim(&files, &programmed(&[here, none])).await.unwrap();
        let texts: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let expected = format!(
            "program.modules[1].digest: there is no file {none} here: send it first (`berth deploy` does)"
        );
        assert_eq!(texts, [expected]);
        assert_eq!(claim(&files, &programmed(&[here, here])).await.unwrap(), []);
        let many = vec![none; MAX_NAMED + 7];
        let faults = claim(&files, &programmed(&many)).await.unwrap();
        assert!(
            faults.len() == MAX_NAMED + 1 && faults[MAX_NAMED].message.starts_with("7 more"),
            "{faults:?}"
        );
    }

    #[test]
    fn an_app_has_bounds_of_its_own() {
        let digests = [Digest::of(b"a"), Digest::of(b"b")];
        let spec = programmed(&digests);
        let lengths = |a, b| HashMap::from([(digests[0], a), (digests[1], b)]);
        assert_eq!(too_large(&spec, &lengths(MAX_PROGRAM_BYTES, 0)), []);
        let fields: Vec<String> = too_large(&spec, &lengths(MAX_PROGRAM_BYTES, MAX_APP_CONTENT_BYTES))
            .into_iter()
            .map(|fault| fault.field)
            .collect();
        assert_eq!(fields, ["program.modules", ""]);
    }

    #[test]
    fn modules_of_the_same_content_count_each() {
        let digest = Digest::of(b"a");
        let spec = programmed(&[digest; 3]);
        let faults = |bytes| too_large(&spec, &HashMap::from([(digest, bytes)])).len();
        assert_eq!((faults(MAX_PROGRAM_BYTES / 3), faults(MAX_PROGRAM_BYTES / 3 + 1)), (0, 1));
    }

    #[test]
    fn a_source_map_has_a_bound() {
        let digest = Digest::of(b"a");
        let mut spec = programmed(&[Digest::of(b"b")]);
        spec.program.as_mut().unwrap().modules[0].map = Some(digest);
        let lengths = |bytes| HashMap::from([(digest, bytes), (Digest::of(b"b"), 1)]);
        assert_eq!(too_large(&spec, &lengths(MAX_SOURCE_MAP_BYTES)), []);
        let faults = too_large(&spec, &lengths(MAX_SOURCE_MAP_BYTES + 1));
        assert_eq!(
            faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
            ["program.modules[0].map"]
        );
    }
}
