//! Heads between HTTP's types and messages: header values are bytes there and text here, in UTF-8, as in the reference.

use berth_script::message::{BodyRef, Headers, Request, Response};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Header fields as a script gets them.
pub(super) fn to_script(headers: &HeaderMap) -> Headers {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(field).collect()
}

/// Header fields of a script's; those that HTTP does not allow are an error that names them.
fn from_script(headers: Headers) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::with_capacity(headers.len().min(1024));
    for (name, value) in headers {
        let value =
            HeaderValue::try_from(value).map_err(|_| format!("Invalid header value of \"{name}\"."))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "Invalid header name.".to_owned())?;
        map.try_append(name, value).map_err(|_| "Too many headers.".to_owned())?;
    }
    Ok(map)
}

/// The head of a request, for a script.
pub(super) fn request(parts: &http::request::Parts, body: BodyRef) -> Request {
    Request {
        method: parts.method.as_str().to_owned(),
        url: parts.uri.to_string(),
        headers: to_script(&parts.headers),
        body,
    }
}

/// The head of a response, for a script.
pub(super) fn response(parts: &http::response::Parts, body: BodyRef) -> Response {
    Response {
        status: parts.status.as_u16(),
        status_text: parts.status.canonical_reason().unwrap_or_default().to_owned(),
        headers: to_script(&parts.headers),
        body,
    }
}

/// A request of a script's.
pub(super) fn request_from<B>(request: Request, body: B) -> Result<http::Request<B>, String> {
    let mut made = http::Request::new(body);
    *made.method_mut() =
        request.method.parse().map_err(|_| format!("Invalid method \"{}\".", request.method))?;
    *made.uri_mut() = request.url.parse().map_err(|_| format!("Invalid URL: {}", request.url))?;
    *made.headers_mut() = from_script(request.headers)?;
    Ok(made)
}

/// A response of a script's; one of status 101 has a WebSocket.
pub(super) fn response_from<B>(response: Response, body: B) -> Result<http::Response<B>, String> {
    let mut made = http::Response::new(body);
    let (status, socket) = (response.status, response.has_socket());
    *made.status_mut() = http::StatusCode::from_u16(status)
        .ok()
        .filter(|_| socket || (200..=599).contains(&status))
        .ok_or_else(|| format!("Invalid status {}.", response.status))?;
    *made.headers_mut() = from_script(response.headers)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_utf_8() {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_bytes("é ✓".as_bytes()).unwrap());
        headers.append("a", HeaderValue::from_static("y"));
        let given = to_script(&headers);
        assert_eq!(given, [("a".to_owned(), "é ✓".to_owned()), ("a".to_owned(), "y".to_owned())]);
        assert_eq!(from_script(given).unwrap(), headers);
        headers.insert("a", HeaderValue::from_bytes(b"\xe9x").unwrap());
        assert_eq!(to_script(&headers), [("a".to_owned(), "\u{fffd}x".to_owned())]);
    }

    #[test]
    fn what_http_does_not_allow_is_an_error() {
        for (name, value) in [("a b", "x"), ("a", "x\r\ny: z"), ("", "x"), ("a", "\0")] {
            assert!(from_script(vec![(name.to_owned(), value.to_owned())]).is_err(), "{name} {value}");
        }
        let response = |status| Response {
            status,
            status_text: String::new(),
            headers: Vec::new(),
            body: BodyRef::None,
        };
        for status in [0, 99, 100, 102, 199, 600, 999] {
            assert!(response_from(response(status), ()).is_err(), "{status}");
        }
        assert!([101, 204].into_iter().all(|status| response_from(response(status), ()).is_ok()));
    }
}
