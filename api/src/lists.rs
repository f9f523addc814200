//! Lists come in pages: what every list can be asked for, and which pages make sense.

use std::fmt::Display;
use std::str::FromStr;

use berth_common::ids::{AppName, ClassName};
use serde::{Deserialize, Serialize};

use crate::containers::ContainerState;

/// What a list can be asked for: beside its own filters, which page of it.
pub trait Paged: Sized {
    /// Most that one page has.
    const MAX_PAGE: usize;

    /// How many are wanted, and behind what.
    fn wanted(&self) -> (Option<usize>, Option<&str>);

    /// Behind what, and how many; so many as usual unless it says.
    fn page<T: FromStr<Err: Display>>(&self, usual: usize) -> Result<(Option<T>, usize), PageError> {
        let (limit, cursor) = self.wanted();
        let limit = limit.unwrap_or(usual);
        if !(1..=Self::MAX_PAGE).contains(&limit) {
            return Err(PageError::Limit { max: Self::MAX_PAGE });
        }
        let read = |text: &str| text.parse().map_err(|error: T::Err| PageError::Cursor(error.to_string()));
        Ok((cursor.map(read).transpose()?, limit))
    }
}

/// Why there is no such page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Its size makes no sense.
    #[error("must be from 1 to {max}")]
    Limit {
        /// Most that a page has.
        max: usize,
    },
    /// The cursor is none that a page before has given.
    #[error("{0}")]
    Cursor(String),
}

/// What a list with filters can be asked for: these, and then which page. The order is that of `docs/openapi.json`.
macro_rules! paged {
    ($(#[doc = $about:tt])+ $name:ident, up to $max:tt { $($own:tt)* } $(#[doc = $limit:tt])+ limit) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($own)*
            $(#[doc = $limit])+
            #[cfg_attr(feature = "schema", param(minimum = 1, maximum = $max))]
            pub limit: Option<usize>,
            /// `next_cursor` of the page before.
            pub cursor: Option<String>,
        }

        impl Paged for $name {
            const MAX_PAGE: usize = $max;

            fn wanted(&self) -> (Option<usize>, Option<&str>) {
                (self.limit, self.cursor.as_deref())
            }
        }
    };
}

paged! {
    /// Which objects are listed.
    ContainerListing, up to 10000 {
        /// Only those of this app.
        #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
        pub app: Option<AppName>,
        /// Only those of this class.
        #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
        pub class: Option<ClassName>,
        /// Only those in this state.
        #[cfg_attr(feature = "schema", param(inline))]
        pub state: Option<ContainerState>,
    }
    /// How many objects are looked at: with a filter, a page may hold fewer, or none, and not be the last.
    limit
}

paged! {
    /// Which keys are listed.
    KeyListing, up to 10000 {
        /// Only those that begin with this.
        #[cfg_attr(feature = "schema", param(required = false))]
        pub prefix: String,
    }
    /// How many.
    limit
}

paged! {
    /// Which records of use are listed.
    RecordListing, up to 10000 {
        /// Those that ended at this moment or later: milliseconds since 1970, or as in RFC 3339; the beginning of this month
        /// (UTC) unless given.
        pub from: Option<String>,
        /// Those that ended before; now unless given.
        pub to: Option<String>,
    }
    /// How many.
    limit
}

/// Which part of a list is wanted that has no filters: images, schedules, events.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct Listing {
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// How many.
    #[cfg_attr(feature = "schema", param(minimum = 1, maximum = 1000))]
    pub limit: Option<usize>,
}

impl Paged for Listing {
    const MAX_PAGE: usize = 1_000;

    fn wanted(&self) -> (Option<usize>, Option<&str>) {
        (self.limit, self.cursor.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_size_and_a_beginning() {
        let asked = |limit, cursor: Option<&str>| {
            Listing { limit, cursor: cursor.map(str::to_owned) }.page::<u32>(100)
        };
        assert_eq!(asked(None, None), Ok((None, 100)));
        assert_eq!(asked(Some(1_000), Some("7")), Ok((Some(7), 1_000)));
        for bad in [0, 1_001] {
            assert_eq!(asked(Some(bad), None), Err(PageError::Limit { max: 1_000 }));
        }
        assert!(matches!(asked(None, Some("x")), Err(PageError::Cursor(_))));
    }
}
