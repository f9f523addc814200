//! Who a request comes from: the other end of its connection, or, where that is a trusted proxy, the client that the
//! proxy names in `X-Forwarded-For` or `Forwarded` (RFC 7239). The chain is read from the right, through addresses that
//! are trusted, up to the first that is not: that is the client, and what it wrote further left does not count.
//!
//! Does not know what the addresses are used for.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Most proxies in a row that are followed: more than anybody has, so that a loop of proxies costs little.
const MAX_HOPS: usize = 16;
/// The protocols that a proxy may say its client speaks.
const PROTOCOLS: [&str; 4] = ["http", "https", "ws", "wss"];

/// The networks of the proxies whose word counts.
#[derive(Debug, Default)]
pub(crate) struct Trust(Vec<IpNet>);

/// Where a request comes from, as far as that can be believed.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The other end of the connection.
    peer: IpAddr,
    /// What a trusted proxy at the other end says.
    said: Option<Box<Said>>,
}

/// What a trusted proxy says of a request.
#[derive(Debug, Clone, Default)]
struct Said {
    /// The addresses before the peer, the nearest first; the last one is the client. May be empty.
    hops: Vec<IpAddr>,
    proto: Option<&'static str>,
    host: Option<HeaderValue>,
    /// Said with `Forwarded`, which is continued then.
    in_one_header: bool,
}

impl Trust {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether what this address says about its clients counts.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came from `peer`.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        if self.0.is_empty() || !self.trusts(peer) {
            return Client { peer, said: None };
        }
        let said = if !headers.contains_key(X_FORWARDED_FOR) && headers.contains_key(FORWARDED) {
            self.in_one_header(headers)
        } else {
            self.in_x_headers(headers)
        };
        Client { peer, said: Some(Box::new(said)) }
    }

    fn in_x_headers(&self, headers: &HeaderMap) -> Said {
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',').map(address));
        Said {
            hops: self.follow(hops),
            proto: last(headers, &X_FORWARDED_PROTO).and_then(protocol),
            host: last(headers, &X_FORWARDED_HOST).and_then(host),
            in_one_header: false,
        }
    }

    /// The protocol and the host are those that the hop says that names the client.
    fn in_one_header(&self, headers: &HeaderMap) -> Said {
        let lines = headers.get_all(FORWARDED).iter().rev();
        let hops: Vec<Hop> = lines
            .flat_map(|line| line.to_str().ok().and_then(hops_of).unwrap_or_else(|| vec![Hop::default()]))
            .take(MAX_HOPS)
            .collect();
        let followed = self.follow(hops.iter().map(|hop| hop.from));
        // With no address that can be believed, the nearest proxy's word on the rest still counts.
        let named = hops.get(followed.len().saturating_sub(1));
        Said {
            hops: followed,
            proto: named.and_then(|hop| hop.proto),
            host: named.and_then(|hop| hop.host.clone()),
            in_one_header: true,
        }
    }

    /// Takes hops, the nearest first, up to and with the first that is not trusted, or up to one that is no address.
    fn follow(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Vec<IpAddr> {
        let mut followed = Vec::new();
        for hop in hops.take(MAX_HOPS).map_while(|hop| hop) {
            followed.push(hop);
            if !self.trusts(hop) {
                break;
            }
        }
        followed
    }
}

impl Client {
    /// Its address.
    pub(crate) fn address(&self) -> IpAddr {
        self.said.as_ref().and_then(|said| said.hops.last()).copied().unwrap_or(self.peer)
    }

    /// The address that limits are for; none for a process of this machine that is not trusted to speak for others.
    pub(crate) fn limited(&self) -> Option<IpAddr> {
        let local = self.said.is_none() && self.peer.is_loopback();
        (!local).then(|| self.address())
    }

    /// Sets the headers that tell the app where the request comes from; `host` is the host that it names itself.
    pub(crate) fn describe(&self, headers: &mut HeaderMap, own_host: HeaderValue) {
        let said = self.said.as_deref();
        let proto = said.and_then(|said| said.proto).unwrap_or("http");
        let host = said.and_then(|said| said.host.clone()).unwrap_or(own_host);
        headers.remove(FORWARDED);
        if said.is_some_and(|said| said.in_one_header) {
            insert(headers, FORWARDED, self.chain(|address| element(address, proto, &host)));
        }
        insert(headers, X_FORWARDED_FOR, self.chain(|address| address.to_string()));
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
        headers.insert(X_FORWARDED_HOST, host);
    }

    /// All addresses from the client to the peer.
    fn chain(&self, text: impl Fn(IpAddr) -> String) -> String {
        let hops = self.said.iter().flat_map(|said| said.hops.iter().rev()).copied();
        hops.chain([self.peer]).map(text).collect::<Vec<_>>().join(", ")
    }
}

/// Texts made of addresses and of values that were headers before are always valid.
fn insert(headers: &mut HeaderMap, name: HeaderName, text: String) {
    let value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    headers.insert(name, value);
}

/// One hop as `Forwarded` writes it.
fn element(address: IpAddr, proto: &str, host: &HeaderValue) -> String {
    let address = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    match host.to_str() {
        Ok(host) if is_host(host) => format!("for={address};host=\"{host}\";proto={proto}"),
        _ => format!("for={address};proto={proto}"),
    }
}

/// An address with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

/// The last value of a header that may be a list: the one that the nearest proxy wrote.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next().map(str::trim)
}

fn protocol(text: &str) -> Option<&'static str> {
    PROTOCOLS.into_iter().find(|known| text.eq_ignore_ascii_case(known))
}

fn host(text: &str) -> Option<HeaderValue> {
    is_host(text).then(|| HeaderValue::from_str(text).ok()).flatten()
}

fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// One element of `Forwarded`. Without an address if that is hidden, unknown or malformed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hop {
    from: Option<IpAddr>,
    proto: Option<&'static str>,
    host: Option<HeaderValue>,
}

/// The elements of a line, the nearest first. None if any part of it is malformed: a client may have opened a quote to
/// hide what the proxy wrote behind it.
fn hops_of(line: &str) -> Option<Vec<Hop>> {
    let (mut hops, mut rest) = (vec![Hop::default()], line.trim());
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        hops.last_mut()?.set(name.trim(), &value);
        let after = after.trim_start();
        let Some(separator) = after.chars().next() else { break };
        match separator {
            ';' => {}
            ',' => hops.push(Hop::default()),
            _ => return None,
        }
        rest = after[1..].trim_start();
    }
    hops.reverse();
    Some(hops)
}

/// A token or a quoted string at the beginning of the text, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t', '"', '=']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (index, letter) in quoted.char_indices() {
        match letter {
            '"' if !escaped => return Some((value, &quoted[index + 1..])),
            '\\' if !escaped => escaped = true,
            _ => {
                value.push(letter);
                escaped = false;
            }
        }
    }
    None
}

impl Hop {
    fn set(&mut self, name: &str, text: &str) {
        if name.eq_ignore_ascii_case("for") {
            self.from = address(text);
        } else if name.eq_ignore_ascii_case("proto") {
            self.proto = protocol(text);
        } else if name.eq_ignore_ascii_case("host") {
            self.host = host(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "192.0.2.1";

    fn trust() -> Trust {
        Trust::new(vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()])
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(pair).collect()
    }

    fn client(peer: &str, lines: &[(&str, &str)]) -> Client {
        trust().client(peer.parse().unwrap(), &headers(lines))
    }

    fn described(peer: &str, lines: &[(&str, &str)]) -> [Option<String>; 4] {
        let mut headers = headers(lines);
        let client = trust().client(peer.parse().unwrap(), &headers);
        client.describe(&mut headers, HeaderValue::from_static("own.example"));
        [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, FORWARDED]
            .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_not_trusted() {
        let cases: [(&str, &[&str], &str); 14] = [
            ("198.51.100.9", &["8.8.8.8"], "198.51.100.9"),
            (PROXY, &[], PROXY),
            (PROXY, &["8.8.8.8"], "8.8.8.8"),
            (PROXY, &["1.1.1.1, 8.8.8.8"], "8.8.8.8"),
            (PROXY, &["1.1.1.1, 8.8.8.8, 192.0.2.7"], "8.8.8.8"),
            (PROXY, &["1.1.1.1", "8.8.8.8", "192.0.2.7"], "8.8.8.8"),
            (PROXY, &["192.0.2.8, 192.0.2.7"], "192.0.2.8"),
            (PROXY, &["8.8.8.8:4711"], "8.8.8.8"),
            (PROXY, &["[2a00::1]:4711"], "2a00::1"),
            (PROXY, &["2a00::1, 2001:db8::7"], "2a00::1"),
            (PROXY, &["::ffff:8.8.8.8"], "8.8.8.8"),
            // What is no address ends the chain.
            (PROXY, &["8.8.8.8, unknown"], PROXY),
            (PROXY, &["8.8.8.8, unknown, 192.0.2.7"], "192.0.2.7"),
            ("::ffff:192.0.2.1", &["8.8.8.8"], "8.8.8.8"),
        ];
        for (peer, lines, expected) in cases {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            assert_eq!(client(peer, &lines).address().to_string(), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_says_the_same_and_malformed_lines_say_nothing() {
        let cases: [(&[&str], &str); 10] = [
            (&["for=8.8.8.8"], "8.8.8.8"),
            (&["for=1.1.1.1, for=8.8.8.8;proto=https, for=192.0.2.7"], "8.8.8.8"),
            (&["For=\"[2a00::1]:4711\" ; by=x"], "2a00::1"),
            (&["for=unknown"], PROXY),
            (&["for=_hidden, for=192.0.2.7"], "192.0.2.7"),
            (&["for=1.1.1.1, for=\"x, for=8.8.8.8"], PROXY),
            (&["for=1.1.1.1, for=\"x, for=\"[2a00::1]\""], PROXY),
            (&["for=\"1.1.1.1", "for=8.8.8.8"], "8.8.8.8"),
            (&["for"], PROXY),
            (&["for=8.8.8.8 8.8.4.4"], PROXY),
        ];
        for (lines, expected) in cases {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            assert_eq!(client(PROXY, &lines).address().to_string(), expected, "{lines:?}");
        }
    }

    #[test]
    fn x_forwarded_for_counts_where_both_are_there() {
        let lines = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "8.8.8.8")];
        assert_eq!(client(PROXY, &lines).address().to_string(), "8.8.8.8");
        assert_eq!(described(PROXY, &lines)[3], None);
    }

    #[test]
    fn the_app_sees_the_chain_that_is_believed_and_no_more() {
        let lines = [
            ("x-forwarded-for", "6.6.6.6, 8.8.8.8, 192.0.2.7"),
            ("x-forwarded-proto", "http, HTTPS"),
            ("x-forwarded-host", "shop.example:8443"),
        ];
        let [from, proto, host, forwarded] = described(PROXY, &lines);
        assert_eq!(from, some("8.8.8.8, 192.0.2.7, 192.0.2.1"));
        assert_eq!((proto, host, forwarded), (some("https"), some("shop.example:8443"), None));
        let own = [some("198.51.100.9"), some("http"), some("own.example"), None];
        assert_eq!(described("198.51.100.9", &lines), own);
        let odd = [("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b")];
        assert_eq!(described(PROXY, &odd), [some(PROXY), some("http"), some("own.example"), None]);
    }

    #[test]
    fn forwarded_is_continued() {
        let lines =
            [("forwarded", "for=6.6.6.6;proto=http, for=\"[2a00::1]\";proto=https;host=shop.example")];
        let [from, proto, host, forwarded] = described(PROXY, &lines);
        assert_eq!((from, proto, host), (some("2a00::1, 192.0.2.1"), some("https"), some("shop.example")));
        assert_eq!(
            forwarded,
            some(
                "for=\"[2a00::1]\";host=\"shop.example\";proto=https, for=192.0.2.1;host=\"shop.example\";proto=https"
            )
        );
        assert_eq!(described("198.51.100.9", &lines)[3], None);
    }

    #[test]
    fn a_long_chain_is_cut() {
        let line = vec!["192.0.2.7"; 1000].join(",");
        let said = client(PROXY, &[("x-forwarded-for", &line)]).said.unwrap();
        assert_eq!(said.hops.len(), MAX_HOPS);
    }
}
