//! Paged lists: the parameters of every list, and their validation.

use std::fmt::Display;
use std::str::FromStr;

use berth_common::ids::{AppName, ClassName, NodeId};
use serde::{Deserialize, Serialize};

use crate::containers::ContainerState;

/// The parameters of a list: its own filters, and which page of it.
pub trait Paged: Sized {
    /// Most items of one page.
    const MAX_PAGE: usize;

    /// The wanted number of items, and the cursor.
    fn wanted(&self) -> (Option<usize>, Option<&str>);

    /// The parsed cursor, and the number of items: `usual` by default.
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

/// Why a page cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The size is zero or too large.
    #[error("must be from 1 to {max}")]
    Limit {
        /// Most items of a page.
        max: usize,
    },
    /// The cursor is not one that an earlier page has returned.
    #[error("{0}")]
    Cursor(String),
}

/// Defines the parameters of a list with filters: the filters, then the page. The order is that of `docs/openapi.json`.
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
            /// `next_cursor` of the previous page.
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
    /// Which objects to list.
    ContainerListing, up to 10000 {
        /// Only objects of this app.
        #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
        pub app: Option<AppName>,
        /// Only objects of this class.
        #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
        pub class: Option<ClassName>,
        /// Only objects in this state.
        #[cfg_attr(feature = "schema", param(inline))]
        pub state: Option<ContainerState>,
    }
    /// How many objects to look at. With a filter, a page may hold fewer or none without being the last one.
    limit
}

paged! {
    /// Which keys to list.
    KeyListing, up to 10000 {
        /// Only keys that begin with this.
        #[cfg_attr(feature = "schema", param(required = false))]
        pub prefix: String,
    }
    /// Most keys of the page.
    limit
}

paged! {
    /// Which usage records to list.
    RecordListing, up to 10000 {
        /// Only records of containers that ended at this time or later: milliseconds since 1970, or RFC 3339; by
        /// default the beginning of this month (UTC).
        pub from: Option<String>,
        /// Only records of containers that ended before this time; now by default.
        pub to: Option<String>,
    }
    /// Most records of the page.
    limit
}

paged! {
    /// Which of what has happened to list.
    HappeningListing, up to 10000 {
        /// Only what happened to objects of this app.
        #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
        pub app: Option<AppName>,
        /// Only what happened to or on this node.
        #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
        pub node: Option<NodeId>,
    }
    /// Most of them on the page.
    limit
}

/// The page of a list without filters: images, schedules, events.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct Listing {
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Most items of the page.
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
