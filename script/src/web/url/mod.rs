//! URLs as lists of their parts. Stateless: each change parses the URL again.

mod parse;
mod percent;
mod record;
mod set;
#[cfg(test)]
mod tests;

use rquickjs::function::Opt;
use rquickjs::{Array, Ctx, Function, Object, Result};
use url::form_urlencoded;

use self::record::Record;
use super::text::Usv;
use super::whole::whole;

pub(super) fn add<'js>(ctx: &Ctx<'js>, table: &Object<'js>) -> Result<()> {
    table.set(
        "urlParse",
        Function::new(ctx.clone(), |text: Usv, base: Opt<Usv>| {
            parse(&text.0, base.0.as_ref()).map(|url| parts(&url))
        })?,
    )?;
    table.set(
        "urlHref",
        Function::new(ctx.clone(), |text: Usv| parse(&text.0, None).map(|url| url.href()))?,
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

fn parse(text: &str, base: Option<&Usv>) -> Option<Record> {
    match base {
        None => parse::parse(text, None),
        Some(base) => parse::parse(text, Some(&parse::parse(&base.0, None)?)),
    }
}

/// href, origin, protocol, username, password, host, hostname, port, pathname, search, hash.
fn parts(url: &Record) -> Vec<String> {
    let marked = |mark: char, part: &Option<String>| match part {
        Some(part) if !part.is_empty() => format!("{mark}{part}"),
        _ => String::new(),
    };
    vec![
        url.href(),
        origin(url),
        format!("{}:", url.scheme),
        url.username.clone(),
        url.password.clone(),
        url.host_and_port(),
        url.host.clone().unwrap_or_default(),
        url.port.map(|port| port.to_string()).unwrap_or_default(),
        url.pathname(),
        marked('?', &url.query),
        marked('#', &url.fragment),
    ]
}

/// Scheme, host and port, or `null`; of `blob:` those of what is in it.
fn origin(url: &Record) -> String {
    match url.scheme.as_str() {
        "http" | "https" | "ws" | "wss" | "ftp" => format!("{}://{}", url.scheme, url.host_and_port()),
        "blob" => {
            let inner = parse::parse(&url.pathname(), None);
            let web = inner.filter(|inner| matches!(inner.scheme.as_str(), "http" | "https"));
            web.map_or_else(|| "null".to_owned(), |inner| origin(&inner))
        }
        _ => "null".to_owned(),
    }
}

/// The parts after one was set. A value that cannot be leaves them as they are.
fn set(href: &str, part: &str, value: &str) -> Option<Vec<String>> {
    let mut url = parse::parse(href, None)?;
    set::set(&mut url, part, value);
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
