//! Layers on disk: which of them count as whole, and what earlier agents leave.

use super::*;

fn layers() -> (tempfile::TempDir, Layers) {
    let dir = tempfile::tempdir().unwrap();
    make_private_dir(&dir.path().join("images")).unwrap();
    let layers = Layers::open(dir.path()).unwrap();
    (dir, layers)
}

fn name(of: &[u8]) -> LayerName {
    LayerName::alone(&Digest::of(of))
}

/// What an unpacking process does.
fn unpack(partial: &Path) {
    fs::create_dir(partial).unwrap();
    fs::create_dir(partial.join(FILES)).unwrap();
}

#[tokio::test]
async fn a_layer_that_was_not_synced_before_a_crash_of_the_machine_counts_as_missing() {
    let (_dir, mut layers) = layers();
    let name = name(b"a");
    let directory = layers.path(&name);
    fs::create_dir_all(directory.join(FILES)).unwrap();
    let note = |unsynced_in: Option<String>| Note {
        layer: Some(name.0.clone()),
        summary: Summary::default(),
        unsynced_in,
    };
    write_note(&directory, &note(Some(layers.boot.clone()))).unwrap();
    assert!(layers.get(&name).is_some());
    layers.boot = "another".to_owned();
    assert!(layers.get(&name).is_none());
    sync(&directory, note(None)).unwrap();
    assert!(layers.get(&name).is_some());
}

#[test]
fn only_its_own_note_proves_that_a_layer_is_whole() {
    let (_dir, layers) = layers();
    let (a, b) = (name(b"a"), name(b"b"));
    let write = |at: &LayerName, layer: Option<&LayerName>| {
        fs::create_dir_all(layers.path(at)).unwrap();
        let layer = layer.map(|layer| layer.0.clone());
        write_note(&layers.path(at), &Note { layer, summary: Summary::default(), unsynced_in: None })
            .unwrap();
    };
    write(&a, Some(&a));
    assert_eq!(layers.get(&a), None, "it has no files");
    fs::create_dir(layers.path(&a).join(FILES)).unwrap();
    assert!(layers.get(&a).is_some());
    write(&a, Some(&b));
    assert_eq!(layers.get(&a), None, "the note is another layer's");
    write(&a, None);
    assert!(layers.get(&a).is_some(), "an earlier version's");
}

#[tokio::test]
async fn what_an_earlier_agent_left_has_another_name_before_anything_begins() {
    let (dir, earlier) = layers();
    let name = name(b"a");
    let left = earlier.begin(&name).await.unwrap();
    unpack(&left);
    // Versions before named them like this.
    unpack(&earlier.directory.join(format!("{}{PARTIAL}", name.as_str())));
    let removed = earlier.trash();
    unpack(&removed);
    let layers = Layers::open(dir.path()).unwrap();
    let named = |ending: &str| {
        let entries = fs::read_dir(&layers.directory).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(ending))
            .count()
    };
    assert_eq!((named(PARTIAL), layers.leftovers.borrow().len()), (0, 3));
    // What begins now is none of what will be deleted, also where it is the same layer.
    let (one, two) = (layers.begin(&name).await.unwrap(), layers.begin(&name).await.unwrap());
    assert!(one != two && one != left);
    assert!(!layers.leftovers.borrow().iter().any(|leftover| *leftover == one || *leftover == two));
    unpack(&one);
    layers.keep(&one, &name, Summary::default()).unwrap();
    assert!(layers.get(&name).is_some());
}

#[tokio::test]
async fn spools_of_unpacked_layers_are_removed_and_others_are_kept_for_the_rest() {
    let (dir, layers) = layers();
    let (blob, whole, cut) = (Digest::of(b"blob"), Digest::of(b"a"), Digest::of(b"b"));
    let partial = layers.directory.join("x.partial");
    unpack(&partial);
    layers.keep(&partial, &LayerName::alone(&whole), Summary::default()).unwrap();
    for diff in [&whole, &cut] {
        fs::write(layers.spool_of(&blob, diff), b"some").unwrap();
    }
    let layers = Layers::open(dir.path()).unwrap();
    assert!(!layers.spool_of(&blob, &whole).exists() && layers.spool_of(&blob, &cut).exists());
    layers.drop_old_spools(Duration::ZERO, |_| true).unwrap();
    assert!(layers.spool_of(&blob, &cut).exists(), "it is in use");
    layers.drop_old_spools(Duration::ZERO, |_| false).unwrap();
    assert!(!layers.spool_of(&blob, &cut).exists());
}

#[test]
fn chain_ids_are_those_of_the_image_specification() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    assert_eq!(chain_of(None, &a), a);
    assert_eq!(chain_of(Some(&a), &b), Digest::of(format!("{a} {b}").as_bytes()));
}

#[tokio::test]
async fn only_complete_layers_are_listed_the_least_recently_used_first() {
    let (_dir, layers) = layers();
    let names = [name(b"a"), name(b"b")];
    for (age, name) in [(10, &names[0]), (20, &names[1])] {
        let partial = layers.begin(name).await.unwrap();
        unpack(&partial);
        assert_eq!(layers.get(name), None);
        layers.keep(&partial, name, Summary::default()).unwrap();
        let used = SystemTime::now() - Duration::from_secs(age);
        File::open(layers.path(name)).unwrap().set_modified(used).unwrap();
    }
    assert_eq!(layers.by_last_use().unwrap(), [names[1].clone(), names[0].clone()]);
    let files = layers.get(&names[1]).unwrap().files;
    assert_eq!(layers.name_of(&files), Some(names[1].clone()));
    layers.touch(&[files]);
    assert_eq!(layers.by_last_use().unwrap(), [names[0].clone(), names[1].clone()]);
}
