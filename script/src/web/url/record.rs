//! A URL by its parts, and how it is written.

use std::fmt::Write as _;

/// A URL as the standard has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) scheme: String,
    pub(super) username: String,
    pub(super) password: String,
    /// As it is written; there may be none, and it may be empty.
    pub(super) host: Option<String>,
    /// Never the default one of the scheme.
    pub(super) port: Option<u16>,
    pub(super) path: Path,
    pub(super) query: Option<String>,
    pub(super) fragment: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Path {
    /// A text without hierarchy, such as of `mailto:`.
    Opaque(String),
    /// What stands behind slashes.
    Segments(Vec<String>),
}

impl Default for Path {
    fn default() -> Self {
        Self::Segments(Vec::new())
    }
}

/// Whether a scheme is one of those whose URLs all have a host and a path.
pub(super) fn is_special(scheme: &str) -> bool {
    matches!(scheme, "http" | "https" | "ws" | "wss" | "ftp" | "file")
}

/// The port that need not be written.
pub(super) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "ftp" => Some(21),
        _ => None,
    }
}

/// `C:`, and, if `normalized` does not ask for the colon, `C|`.
pub(super) fn is_drive(text: &str, normalized: bool) -> bool {
    matches!(text.as_bytes(), [letter, mark] if letter.is_ascii_alphabetic() && (*mark == b':' || (*mark == b'|' && !normalized)))
}

impl Record {
    pub(super) fn is_special(&self) -> bool {
        is_special(&self.scheme)
    }

    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.path, Path::Opaque(_))
    }

    /// Whether names, passwords and ports can be set.
    pub(super) fn can_have_credentials(&self) -> bool {
        self.scheme != "file" && self.host.as_ref().is_some_and(|host| !host.is_empty())
    }

    pub(super) fn has_credentials(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }

    pub(super) fn set_port(&mut self, port: u16) {
        self.port = (default_port(&self.scheme) != Some(port)).then_some(port);
    }

    pub(super) fn push(&mut self, segment: String) {
        if let Path::Segments(segments) = &mut self.path {
            segments.push(segment);
        }
    }

    /// Takes the last segment away, but for a drive.
    pub(super) fn shorten(&mut self) {
        let Path::Segments(segments) = &mut self.path else { return };
        let drive = self.scheme == "file" && segments.len() == 1 && is_drive(&segments[0], true);
        if !drive {
            segments.pop();
        }
    }

    /// What `host` shows: the host with its port.
    pub(super) fn host_and_port(&self) -> String {
        let mut text = self.host.clone().unwrap_or_default();
        if let Some(port) = self.port {
            let _ = write!(text, ":{port}");
        }
        text
    }

    pub(super) fn pathname(&self) -> String {
        match &self.path {
            Path::Opaque(path) => path.clone(),
            Path::Segments(segments) => segments.iter().flat_map(|segment| ["/", segment]).collect(),
        }
    }

    pub(super) fn href(&self) -> String {
        let mut text = format!("{}:", self.scheme);
        if self.host.is_some() {
            text.push_str("//");
            self.write_credentials(&mut text);
            text.push_str(&self.host_and_port());
        } else if let Path::Segments(segments) = &self.path
            && segments.len() > 1
            && segments[0].is_empty()
        {
            // Or what follows would be read as a host.
            text.push_str("/.");
        }
        text.push_str(&self.pathname());
        for (mark, part) in [('?', &self.query), ('#', &self.fragment)] {
            if let Some(part) = part {
                text.push(mark);
                text.push_str(part);
            }
        }
        text
    }

    fn write_credentials(&self, text: &mut String) {
        if !self.has_credentials() {
            return;
        }
        text.push_str(&self.username);
        if !self.password.is_empty() {
            text.push(':');
            text.push_str(&self.password);
        }
        text.push('@');
    }
}
