//! Parses how a registry wants clients to authenticate (`WWW-Authenticate`). Pure.

use ::http::HeaderMap;
use ::http::header::WWW_AUTHENTICATE;
use http_auth::{ChallengeParser, ChallengeRef};

/// A way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a token from the realm.
    Bearer { realm: String, service: Option<String> },
    /// With user and password.
    Basic,
}

impl Challenge {
    /// The best of the offered ways: a token reveals less to the registry than a password.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, String> {
        let mut found = Vec::new();
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let text = value.to_str().map_err(|_| "its challenge is no text".to_owned())?;
            for challenge in ChallengeParser::new(text) {
                found.extend(Self::read(&challenge.map_err(|error| error.to_string())?));
            }
        }
        let bearer = found.iter().position(|challenge| matches!(challenge, Self::Bearer { .. }));
        let best = bearer.unwrap_or_default();
        found.into_iter().nth(best).ok_or_else(|| "it offers neither Bearer nor Basic".to_owned())
    }

    fn read(challenge: &ChallengeRef<'_>) -> Option<Self> {
        let value = |wanted: &str| {
            let mut all = challenge.params.iter();
            let found = all.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        let bearer = challenge.scheme.eq_ignore_ascii_case("bearer");
        bearer.then(|| Some(Self::Bearer { realm: value("realm")?, service: value("service") }))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Challenge, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let bearer = r#"bearer realm="https://auth.example/token",service="r, \"x\"",scope="a:b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("r, \"x\"".to_owned()),
        };
        assert_eq!(read(&[bearer]), Ok(expected.clone()));
        assert_eq!(read(&["Basic realm=\"x\"", bearer]), Ok(expected.clone()));
        assert_eq!(read(&[&format!("Basic realm=\"x\", {bearer}")]), Ok(expected));
        assert_eq!(read(&["BASIC realm=x"]), Ok(Challenge::Basic));
    }

    #[test]
    fn unknown_challenges_are_refused() {
        for bad in ["", "Digest realm=\"x\"", "Bearer service=\"x\"", "Bearer realm=\"", "=,=;"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert!(read(&[]).is_err());
    }
}
