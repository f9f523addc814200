//! Names of things on the command line: objects by APP/CLASS/NAME, and everything with an id by a part of it that only it
//! begins with. And whether there is an app of a name.

use std::str::FromStr;

use anyhow::{Result, anyhow, bail, ensure};
use berth_api::apps::{AppList, AppView};
use berth_api::containers::{ContainerPage, ContainerView};
use berth_api::images::ImageEntry;
use berth_api::lists::{Listing, Paged};
use berth_common::ids::{AppName, ClassName, ObjectId, ObjectKey};
use berth_common::image::{Digest, ImageNameError, Named, Pick, Repository};
use serde_json::Value;

use crate::admin::Admin;
use crate::failure::bad_input;
use crate::output;

/// Fewest digits of a part of an id: with fewer, what is meant for a name could be one.
const LEAST_DIGITS: usize = 4;
/// Digits of an object's id.
const DIGITS: usize = 32;
/// How many of several that were found are named.
const NAMED: usize = 4;
/// How many apps an error names.
const NAMED_APPS: usize = 10;

/// `APP/CLASS/NAME`, where it has these parts. The name may hold slashes.
pub(crate) fn object_key(text: &str) -> Result<Option<ObjectKey>> {
    let mut parts = text.splitn(3, '/');
    let (Some(app), Some(class), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    let of = |what: &str, text: &str, error| bad_input(anyhow!("the {what} {text:?} {error}"));
    Ok(Some(ObjectKey {
        app: app.parse().map_err(|error: berth_common::ids::IdError| of("app", app, error))?,
        class: class.parse().map_err(|error| of("class", class, error))?,
        name: name.parse().map_err(|error| of("name", name, error))?,
    }))
}

/// The id of an object. That of a name is its hash, also if there is no such object; whose id begins with the digits the edge
/// tells.
pub(crate) async fn object(admin: &Admin, text: &str) -> Result<ObjectId> {
    if let Some(key) = object_key(text)? {
        return Ok(key.id());
    }
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let begin = beginning(text).ok_or_else(|| {
        bad_input(anyhow!(
            "{text:?} is neither APP/CLASS/NAME nor an ID of {DIGITS} hexadecimal digits, of which the first ones are enough"
        ))
    })?;
    let page: ContainerPage =
        admin.get(&format!("/v1/containers?limit={NAMED}{}", cursor_before(&begin))).await?;
    let found: Vec<&ContainerView> =
        page.containers.iter().filter(|view| view.id.to_string().starts_with(&begin)).collect();
    let named = found.iter().map(|view| format!("{} ({}/{}/{})", view.id, view.app, view.class, view.name));
    one("object", text, &found.iter().map(|view| view.id).collect::<Vec<_>>(), &named.collect::<Vec<_>>())
}

/// The only one of those that were found; otherwise an error that says which there are.
fn one<T: Clone>(what: &str, text: &str, found: &[T], named: &[String]) -> Result<T> {
    match found {
        [] => Err(anyhow!("there is no {what} whose ID begins with {text}")),
        [only] => Ok(only.clone()),
        _ => {
            let named = named.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(bad_input(anyhow!("the IDs of several {what}s begin with {text}: {named}; give more digits")))
        }
    }
}

/// The id among these that a text is, or that only begins with it.
pub(crate) fn among(what: &str, text: &str, ids: &[String]) -> Result<String> {
    if let Some(same) = ids.iter().find(|id| *id == text) {
        return Ok(same.clone());
    }
    let Some(begin) = beginning(text) else {
        return Err(anyhow!(
            "there is no {what} {text}; {LEAST_DIGITS} or more of the first digits of its ID are enough"
        ));
    };
    let found: Vec<String> = ids.iter().filter(|id| may_mean(&begin, id)).cloned().collect();
    one(what, text, &found, &found)
}

/// Whether a text may stand for an id: as its beginning, or for an id of two parts (`OBJECT-NUMBER`) as the beginning of the
/// first with the whole number, whose zeros in front may be left out. All events of one object begin alike.
fn may_mean(text: &str, id: &str) -> bool {
    let two = |id: &str| id.split_once('-').map(|(object, number)| (object.to_owned(), number_of(number)));
    id.starts_with(text)
        || two(text).zip(two(id)).is_some_and(|((object, number), (whole, its))| {
            object.len() >= LEAST_DIGITS && whole.starts_with(&object) && number.is_some() && number == its
        })
}

/// The number that some hexadecimal digits are.
fn number_of(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

/// An event's id in a table: the first digits of its object, and its number. With `wide` all of it.
pub(crate) fn event(id: &str, wide: bool) -> String {
    match id.split_once('-').and_then(|(object, number)| Some((object, number_of(number)?))) {
        Some((object, number)) if !wide => format!("{}-{number:x}", output::id(object, false)),
        _ => id.to_owned(),
    }
}

/// The image of the edge that is meant: REPOSITORY[:TAG], or REPOSITORY@DIGEST with all of the digest's digits or the first ones.
pub(crate) async fn image(admin: &Admin, text: &ImageName) -> Result<Named> {
    let (repository, begin) = match text {
        ImageName::Whole(named) => return Ok(named.clone()),
        ImageName::Begin(repository, begin) => (repository, begin),
    };
    let path = format!("/v1/images?limit={}", Listing::MAX_PAGE);
    let images: Vec<Value> = admin.pages(&path, "images").await?;
    let images: Vec<ImageEntry> = serde_json::from_value(images.into())?;
    let of_it = images.iter().filter(|image| image.repository == *repository).map(|image| image.digest);
    let digest = image_among(begin, of_it)?;
    Ok(Named { repository: repository.clone(), pick: Pick::Digest(digest) })
}

/// The digest among these that begins with some digits.
fn image_among(begin: &str, digests: impl Iterator<Item = Digest>) -> Result<Digest> {
    let found: Vec<Digest> = digests.filter(|digest| digest.hex().starts_with(begin)).collect();
    let named: Vec<String> = found.iter().map(Digest::to_string).collect();
    one("image", begin, &found, &named)
}

/// What a command names an image of the edge by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageName {
    /// Its tag or its digest.
    Whole(Named),
    /// Its repository and the first digits of its digest.
    Begin(Repository, String),
}

impl FromStr for ImageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("berth:").unwrap_or(text);
        let whole = name.parse().map(Self::Whole).map_err(|error: ImageNameError| error.to_string());
        let Some((repository, digest)) = name.split_once('@').filter(|_| whole.is_err()) else {
            return whole;
        };
        let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
        match (repository.parse(), beginning(digits).filter(|digits| !digits.contains('-'))) {
            (Ok(repository), Some(digits)) => Ok(Self::Begin(repository, digits)),
            _ => whole,
        }
    }
}

/// An error that says which apps there are, if this one is not deployed: a list that is empty for a mistyped name would look as
/// if all were well.
pub(crate) async fn expect_app(admin: &Admin, app: &AppName) -> Result<()> {
    let list: AppList = admin.get("/v1/apps").await?;
    if list.apps.iter().any(|known| known.name == *app) {
        return Ok(());
    }
    let names: Vec<&str> = list.apps.iter().take(NAMED_APPS).map(|known| known.name.as_str()).collect();
    let more = if list.apps.len() > NAMED_APPS { ", ..." } else { "" };
    match names.as_slice() {
        [] => bail!("there is no app {app}, nor any other"),
        names => bail!("there is no app {app}; there are: {}{more}", names.join(", ")),
    }
}

/// The same for a class of an app.
pub(crate) async fn expect_class(admin: &Admin, app: &AppName, class: &ClassName) -> Result<()> {
    expect_app(admin, app).await?;
    let view: AppView = admin.get(&format!("/v1/apps/{app}")).await?;
    let names: Vec<&str> = view.spec.classes.keys().map(ClassName::as_str).collect();
    let known = view.spec.classes.contains_key(class);
    ensure!(known, "the app {app} has no class {class}; it has: {}", names.join(", "));
    Ok(())
}

/// The text as the beginning of an id, if it can be one.
fn beginning(text: &str) -> Option<String> {
    // Those of events have two parts.
    let digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let digits = text.len() >= LEAST_DIGITS && text.bytes().all(digit);
    digits.then(|| text.to_ascii_lowercase())
}

/// The cursor of a list that is to begin with the first id that begins so.
fn cursor_before(begin: &str) -> String {
    let first = u128::from_str_radix(&format!("{begin:0<DIGITS$}"), 16).ok();
    let before = first.and_then(|first| first.checked_sub(1));
    before.map_or_else(String::new, |before| format!("&cursor={before:0DIGITS$x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::BadInput;

    #[test]
    fn objects_have_names() {
        let key = object_key("a/C/x/y").unwrap().unwrap();
        assert_eq!(key.name.as_str(), "x/y");
        assert!(object_key("a/C").unwrap().is_none() && object_key("x").unwrap().is_none());
        for bad in ["a/C/", "a b/C/x"] {
            assert!(object_key(bad).unwrap_err().is::<BadInput>(), "{bad}");
        }
    }

    #[test]
    fn the_list_begins_where_ids_do() {
        assert_eq!(cursor_before("00ff"), format!("&cursor=00fe{}", "f".repeat(28)));
        assert_eq!(cursor_before("0000"), "");
        assert_eq!(cursor_before(&"f".repeat(31)), format!("&cursor={}ef", "f".repeat(30)));
    }

    #[test]
    fn an_event_is_named_by_a_part_of_its_object_and_its_number() {
        let object = "0123456789abcdef0123456789abcdef";
        let ids = [1, 2, 0x12].map(|number| format!("{object}-{number:016x}"));
        for id in &ids {
            assert_eq!(among("event", &event(id, false), &ids).unwrap(), *id);
            assert_eq!(among("event", &event(id, true), &ids).unwrap(), *id);
        }
        assert_eq!(event(&ids[2], false), "0123456789ab-12");
        // All events of the object begin so; and no event has the number.
        assert!(among("event", "0123456789ab", &ids).unwrap_err().is::<BadInput>());
        for none in ["0123456789ab-3", "0123456789ac-1", "012-1", "0123-"] {
            assert!(among("event", none, &ids).is_err(), "{none}");
        }
        assert_eq!(event("older", false), "older");
    }

    #[test]
    fn an_image_is_named_by_the_first_digits_of_its_digest() {
        let digests = [b"x", b"y"].map(|bytes| Digest::of(bytes));
        let short = &digests[0].hex()[..12];
        let begin = |text: &str| match text.parse() {
            Ok(ImageName::Begin(repository, begin)) => Some((repository.to_string(), begin)),
            _ => None,
        };
        for text in [format!("a/b@{short}"), format!("berth:a/b@sha256:{}", short.to_uppercase())] {
            assert_eq!(begin(&text), Some(("a/b".to_owned(), short.to_owned())), "{text}");
        }
        assert_eq!(image_among(short, digests.into_iter()).unwrap(), digests[0]);
        assert!(image_among("0000", digests.into_iter()).is_err());
        for whole in ["a/b", "a/b:1", &format!("a/b@{}", digests[1])] {
            assert_eq!(whole.parse(), Ok(ImageName::Whole(whole.parse().unwrap())), "{whole}");
        }
        for bad in ["a/b@", "a/b@123", "a/b@-12345", "A@12345", "a:1@12345"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_part_names_one_or_none() {
        let ids = ["0123aa", "0123bb", "0123"].map(str::to_owned);
        assert_eq!(among("token", "0123b", &ids).unwrap(), "0123bb");
        // One that is whole is meant, also if others begin with it.
        assert_eq!(among("token", "0123", &ids).unwrap(), "0123");
        assert!(among("token", "0123", &ids[..2]).unwrap_err().to_string().contains("0123aa, 0123bb"));
        assert!(among("token", "4567", &ids).is_err() && among("token", "012", &ids).is_err());
    }
}
