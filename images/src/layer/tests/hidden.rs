//! What a layer hides of lower ones, where it stands alone and where it is unpacked over them.

use super::*;

fn lower() -> Place {
    let place = Place::new();
    let layer = Tar::default()
        .file("a", "low")
        .directory("d")
        .file("d/a", "low")
        .file("d/b", "low")
        .directory("d/e")
        .file("d/e/x", "low")
        .symlink("lib", "d/e");
    place.add(layer, Form::Merged);
    place
}

fn alone(layer: Tar) -> (String, Summary) {
    let place = Place::new();
    let summary = place.add(layer, Form::Overlay);
    (place.list(), summary)
}

fn over(layer: Tar) -> String {
    let place = lower();
    place.add(layer, Form::Merged);
    place.list()
}

#[test]
fn a_whiteout_is_a_mark_or_removes() {
    let layer =
        || Tar::default().file(".wh.a", "").directory("d").file("d/.wh.e", "").file("d/.wh.not-there", "");
    assert_eq!(alone(layer()).0, "-a -d/e -d/not-there d/");
    assert_eq!(over(layer()), "d/ d/a d/b lib>d/e");
}

#[test]
fn an_opaque_directory_hides_what_is_not_the_layers_own() {
    let layer = || {
        Tar::default()
            .directory("d")
            .file("d/b", "own")
            .file("d/e/y", "own")
            .file("d/.wh..wh..opq", "")
            .file("d/c", "own")
    };
    assert_eq!(alone(layer()).0, "d/! d/b d/c d/e/ d/e/y");
    assert_eq!(over(layer()), "a d/ d/b d/c d/e/ d/e/y lib>d/e");
}

#[test]
fn a_whiteout_leaves_what_the_layer_has_itself_in_either_order() {
    let before =
        Tar::default().file(".wh.a", "").file("a", "own").file(".wh.d", "").directory("d").file("d/c", "");
    let after =
        Tar::default().file("a", "own").file(".wh.a", "").directory("d").file("d/c", "").file(".wh.d", "");
    for layer in [before, after] {
        assert_eq!(alone(layer.clone()).0, "a d/! d/c");
        assert_eq!(over(layer), "a d/ d/c lib>d/e");
    }
}

#[test]
fn what_replaces_a_whiteout_on_the_way_hides_what_it_hid() {
    let (list, summary) = alone(Tar::default().file(".wh.d", "").file("d/c", ""));
    assert_eq!((list.as_str(), summary.needs_parents), ("d/! d/c", true));
    let (list, _) = alone(Tar::default().file("d", "").directory("d"));
    assert_eq!(list, "d/!");
}

#[test]
fn all_of_the_root_can_only_be_hidden_over_the_lower_layers() {
    let layer = || Tar::default().file("own", "").file(".wh..wh..opq", "");
    let (list, summary) = alone(layer());
    assert_eq!((list.as_str(), summary.needs_parents), ("own", true));
    assert_eq!(over(layer()), "own");
}

#[test]
fn a_layer_tells_whether_it_can_stand_alone() {
    for (layer, needs_parents) in [
        (Tar::default().file("a", ""), false),
        (Tar::default().directory("d").file("d/a", ""), false),
        (Tar::default().file("d/a", "").directory("d"), false),
        (Tar::default().file("d/a", ""), true),
        (Tar::default().file("d/.wh.a", ""), true),
        (Tar::default().directory("d").symlink("l", "d").file("l/a", ""), false),
        (Tar::default().hardlink("h", "low"), true),
        (Tar::default().hardlink("h", "low/a"), true),
        (Tar::default().file("a", "").hardlink("h", "a/b"), true),
        (Tar::default().file(".wh.a", "").hardlink("h", "a"), true),
        (Tar::default().file("f", "").hardlink("h", "./f"), false),
    ] {
        let (list, summary) = alone(layer);
        assert_eq!(summary.needs_parents, needs_parents, "{list}");
    }
}

#[test]
fn lower_layers_are_found_through_their_links() {
    let place = lower();
    place.add(Tar::default().file("lib/y", "new").hardlink("d/h", "/lib/x"), Form::Merged);
    assert_eq!(place.list(), "a d/ d/a d/b d/e/ d/e/x d/e/y d/h lib>d/e");
    assert_eq!(place.read("d/h"), "low");
}

#[test]
fn a_directory_described_over_a_link_replaces_it() {
    assert_eq!(over(Tar::default().directory("lib").file("lib/y", "")), "a d/ d/a d/b d/e/ d/e/x lib/ lib/y");
}

#[test]
fn files_and_directories_replace_one_another() {
    assert_eq!(over(Tar::default().file("d", "").directory("a")), "a/ d lib>d/e");
}

#[test]
fn bookkeeping_of_union_file_systems_is_left_out() {
    let layer =
        Tar::default().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "");
    let (list, summary) = alone(layer.file("a", ""));
    assert_eq!((list.as_str(), summary.left_out, summary.needs_parents), ("a", 3, false));
}

#[test]
fn a_link_to_nothing_is_told_over_the_lower_layers() {
    let error = lower().unpack(&Tar::default().hardlink("h", "gone").done(), Form::Merged, Limits::default());
    assert_eq!(error.unwrap_err().to_string(), "unpack `h`: it is a hard link to `gone`, which is not there");
}
