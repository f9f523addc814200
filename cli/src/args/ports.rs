//! The ports of `berth port-forward`.

use std::str::FromStr;

/// A port of this machine, and the container's that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    /// 0 for any that is free.
    pub(crate) local: u16,
    pub(crate) container: u16,
}

impl FromStr for Ports {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "expected a port such as 8080, or this machine's and the container's, such as 8080:80";
        let (local, container) = text.split_once(':').unwrap_or((text, text));
        let (local, container) = (local.parse().map_err(|_| WRONG)?, container.parse().map_err(|_| WRONG)?);
        if container == 0 { Err(WRONG) } else { Ok(Self { local, container }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_is_both() {
        assert_eq!("8080".parse(), Ok(Ports { local: 8080, container: 8080 }));
        assert_eq!("8080:80".parse(), Ok(Ports { local: 8080, container: 80 }));
        assert_eq!("0:80".parse(), Ok(Ports { local: 0, container: 80 }));
        for bad in ["", "0", "80:0", ":80", "80:", "70000", "1:2:3", "x"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
    }
}
