//! URLs as lists of their parts. Stateless: each change parses the URL again.

use rquickjs::function::Opt;
use rquickjs::{Array, Ctx, Function, Object, Result};
use url::{Url, form_urlencoded, quirks};

use super::text::Usv;
use super::whole::whole;

pub(super) fn add<'js>(ctx: &Ctx<'js>, table: &Object<'js>) -> Result<()> {
    table.set(
        "urlParse",
        Function::new(ctx.clone(), |text: Usv, base: Opt<Usv>| {
            parse(&text.0, base.0.as_ref()).map(|u| parts(&u))
        })?,
    )?;
    table.set(
        "urlSet",
        Function::new(ctx.clone(), |href: String, part: String, value: Usv| set(&href, &part, &value.0))?,
    )?;
    table.set("formParse", Function::new(ctx.clone(), |text: Usv| form_parse(text.0.as_bytes()))?)?;
    table.set("formWrite", Function::new(ctx.clone(), form_write)?)?;
    table.set("percentName", Function::new(ctx.clone(), |name: Usv| percent_name(&name.0))?)?;
    Ok(())
}

fn parse(text: &str, base: Option<&Usv>) -> Option<Url> {
    match base {
        None => Url::parse(text).ok(),
        Some(base) => Url::parse(&base.0).ok()?.join(text).ok(),
    }
}

/// href, origin, protocol, username, password, host, hostname, port, pathname, search, hash.
fn parts(url: &Url) -> Vec<String> {
    let origin = quirks::origin(url);
    [
        quirks::href(url),
        &origin,
        quirks::protocol(url),
        quirks::username(url),
        quirks::password(url),
        quirks::host(url),
        quirks::hostname(url),
        quirks::port(url),
        quirks::pathname(url),
        quirks::search(url),
        quirks::hash(url),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The parts after one was set. A value that cannot be leaves them as they are.
fn set(href: &str, part: &str, value: &str) -> Option<Vec<String>> {
    let mut url = Url::parse(href).ok()?;
    let _ = match part {
        "protocol" => quirks::set_protocol(&mut url, value),
        "username" => quirks::set_username(&mut url, value),
        "password" => quirks::set_password(&mut url, value),
        "host" => quirks::set_host(&mut url, value),
        "hostname" => quirks::set_hostname(&mut url, value),
        "port" => quirks::set_port(&mut url, value),
        "pathname" => {
            quirks::set_pathname(&mut url, value);
            Ok(())
        }
        "search" => {
            quirks::set_search(&mut url, value);
            Ok(())
        }
        "hash" => {
            quirks::set_hash(&mut url, value);
            Ok(())
        }
        _ => Err(()),
    };
    Some(parts(&url))
}

/// Names and values in turns.
fn form_parse(bytes: &[u8]) -> Vec<String> {
    form_urlencoded::parse(bytes).flat_map(|(name, value)| [name.into_owned(), value.into_owned()]).collect()
}

/// Names and values are written as they are taken, so that one that is there many times takes up its bytes once.
fn form_write<'js>(ctx: Ctx<'js>, list: Array<'js>) -> Result<String> {
    let mut out = String::new();
    for pair in 0..list.len() / 2 {
        let (name, value): (Usv, Usv) = (list.get(2 * pair)?, list.get(2 * pair + 1)?);
        whole(&ctx, out.len() + name.0.len() + value.0.len())?;
        out = form_urlencoded::Serializer::for_suffix(out, 0).append_pair(&name.0, &value.0).finish();
    }
    Ok(out)
}

/// A name as it stands in the head of a part of `multipart/form-data`.
fn percent_name(name: &str) -> String {
    name.replace('\n', "%0A").replace('\r', "%0D").replace('"', "%22")
}
