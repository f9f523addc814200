//! Whatever the entries are, and in whichever order, nothing outside is touched.

use proptest::prelude::*;

use super::*;

/// Names that meet one another often.
fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        5 => "[abc]".prop_map(|part| part),
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(".wh.a".to_owned()),
        1 => Just(".wh..wh..opq".to_owned()),
    ];
    (any::<bool>(), proptest::collection::vec(part, 1..4))
        .prop_map(|(absolute, parts)| (if absolute { "/" } else { "" }).to_owned() + &parts.join("/"))
}

/// A kind, a name, and a link that is a name too, or leads out.
fn entries() -> impl Strategy<Value = Vec<(u8, String, String)>> {
    let kind = prop_oneof![Just(b'0'), Just(b'5'), Just(b'2'), Just(b'1')];
    let link = prop_oneof![4 => name(), 1 => Just("../../..".to_owned()), 1 => Just("CANARY".to_owned())];
    proptest::collection::vec((kind, name(), link), 0..24)
}

fn layer(entries: &[(u8, String, String)], canary: &str) -> Vec<u8> {
    let add = |tar: Tar, (kind, path, link): &(u8, String, String)| {
        let link = if link == "CANARY" { canary } else { link };
        let data: &[u8] = if *kind == b'0' { b"data" } else { b"" };
        tar.entry(E {
            kind: *kind,
            path: path.as_bytes(),
            link: link.as_bytes(),
            mode: 0o755,
            data,
            ..E::default()
        })
    };
    entries.iter().fold(Tar::default(), add).done()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// What is beside the directory is looked at by [`Place::unpack`].
    #[test]
    fn nothing_outside_is_touched(lower in entries(), upper in entries(), form in prop_oneof![Just(Form::Overlay), Just(Form::Merged)]) {
        let place = Place::new();
        let _ = place.unpack(&layer(&lower, &place.canary()), Form::Merged, Limits::default());
        let _ = place.unpack(&layer(&upper, &place.canary()), form, Limits::default());
    }

    #[test]
    fn a_layer_unpacks_the_same_over_nothing_but_for_its_marks(entries in entries()) {
        let (alone, over) = (Place::new(), Place::new());
        let layer = layer(&entries, "/nowhere");
        let first = alone.unpack(&layer, Form::Overlay, Limits::default());
        let second = over.unpack(&layer, Form::Merged, Limits::default());
        if let (Ok(first), Ok(_)) = (first, second) && !first.needs_parents {
            let unmarked = alone.list().replace("/!", "/");
            let unmarked: Vec<&str> = unmarked.split(' ').filter(|name| !name.starts_with('-')).collect();
            prop_assert_eq!(unmarked.join(" "), over.list());
        }
    }

    #[test]
    fn any_bytes_are_a_layer_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        at in 0_usize..2048,
    ) {
        let mut layer = Tar::default().file("a", "x").pax(&[("path", b"b")]).file("c", "y").done();
        let end = (at + bytes.len()).min(layer.len());
        layer[at.min(end)..end].copy_from_slice(&bytes[..end - at.min(end)]);
        let _ = Place::new().unpack(&layer, Form::Overlay, Limits { bytes: 1 << 20, ..Limits::default() });
        let _ = Place::new().unpack(&bytes, Form::Overlay, Limits { bytes: 1 << 20, ..Limits::default() });
    }
}
