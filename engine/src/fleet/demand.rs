//! What one instance needs of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use berth_common::ids::{AppName, ClassName, Generation, NodeId, ObjectId, ObjectKey};
use berth_common::image::{Architecture, Digest};
use berth_common::spec::{AppLimits, ClassSpec, Resources, Spread};

/// The room that one instance needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The object.
    pub object: ObjectId,
    /// The generation that the instance will be.
    pub generation: Generation,
    /// The limits of the instance, all of which are reserved.
    pub resources: Resources,
    /// Its class, for the class's limit.
    pub class: (AppName, ClassName),
    /// Most instances that the class may have.
    pub max_instances: Option<u32>,
    /// The limits of all instances of the app together.
    pub limits: AppLimits,
    /// Its image.
    pub image: Digest,
    /// Which nodes may have it.
    pub constraints: Constraints,
    /// What the instances of its class spread over, if they do.
    pub spread: Option<Spread>,
    /// The node that had the object's instance until a short time ago.
    pub last_node: Option<NodeId>,
    /// The nodes that have refused it.
    pub refused_by: BTreeSet<NodeId>,
    /// Whether nobody waits for it: it may wait for room as long as that takes.
    pub is_patient: bool,
}

/// Which nodes may have an instance, whatever room they have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Constraints {
    /// The architectures that the image runs on; empty if not known.
    pub architectures: BTreeSet<Architecture>,
    /// The regions that it may be in; empty for all.
    pub regions: BTreeSet<String>,
    /// The labels that the node must have.
    pub labels: BTreeMap<String, String>,
}

impl Demand {
    /// The demand of an instance of this class for this object.
    pub fn of(key: &ObjectKey, generation: Generation, class: &ClassSpec) -> Self {
        Self {
            object: key.id(),
            generation,
            resources: class.recipe.resources,
            class: (key.app.clone(), key.class.clone()),
            max_instances: class.max_instances,
            limits: class.of_app.limits,
            image: class.recipe.image.digest,
            constraints: Constraints::of(class),
            spread: class.placement.spread,
            last_node: None,
            refused_by: BTreeSet::new(),
            is_patient: false,
        }
    }

    /// Whether a node that has no place for one has none for the other either.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let same_room = self.resources == other.resources && self.class == other.class;
        let same_limits = self.max_instances == other.max_instances && self.limits == other.limits;
        let same_nodes = self.constraints == other.constraints && self.refused_by == other.refused_by;
        same_room && same_limits && same_nodes && self.is_patient == other.is_patient
    }
}

impl Constraints {
    /// Those of a class.
    pub fn of(class: &ClassSpec) -> Self {
        Self {
            architectures: class.recipe.image.architectures.clone(),
            regions: class.placement.regions.clone(),
            labels: class.placement.labels.clone(),
        }
    }

    pub(super) fn are_none(&self) -> bool {
        self.architectures.is_empty() && self.regions.is_empty() && self.labels.is_empty()
    }

    /// The first of them that a node with these properties does not meet, if any. An architecture that is not known is no
    /// obstacle; a region that is not known is none of theirs.
    pub fn unmet(
        &self,
        architecture: Option<Architecture>,
        region: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Option<Unmet<'_>> {
        let runs = architecture.is_none_or(|own| self.architectures.contains(&own));
        if !self.architectures.is_empty() && !runs {
            return Some(Unmet::Architecture(&self.architectures));
        }
        if !self.regions.is_empty() && region.is_none_or(|own| !self.regions.contains(own)) {
            return Some(Unmet::Region(&self.regions));
        }
        let missing = self.labels.iter().find(|(key, value)| labels.get(*key) != Some(value));
        missing.map(|(key, value)| Unmet::Label(key, value))
    }
}

/// A constraint that a node does not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmet<'a> {
    /// It does not run what the image is made for.
    Architecture(&'a BTreeSet<Architecture>),
    /// It is in none of the regions.
    Region(&'a BTreeSet<String>),
    /// It does not have a label, with its value.
    Label(&'a str, &'a str),
}

impl Unmet<'_> {
    /// What a node would need.
    pub fn lacking(&self) -> String {
        match self {
            Self::Architecture(made_for) => {
                let names: Vec<String> = made_for.iter().map(|one| format!("linux/{one}")).collect();
                format!("a processor for {}", names.join(" or "))
            }
            Self::Region(regions) => {
                let names: Vec<&str> = regions.iter().map(String::as_str).collect();
                format!("the region {}", names.join(" or "))
            }
            Self::Label(key, value) => format!("the label {key}={value}"),
        }
    }

    /// The order in which they are looked at.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Architecture(_) => 0,
            Self::Region(_) => 1,
            Self::Label(..) => 2,
        }
    }
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Architecture(made_for) => {
                let names: Vec<String> = made_for.iter().map(|one| format!("linux/{one}")).collect();
                write!(f, "none runs what the image is made for ({})", names.join(", "))
            }
            Self::Region(regions) => {
                let names: Vec<&str> = regions.iter().map(String::as_str).collect();
                write!(f, "none that could take it is in the regions of its class ({})", names.join(", "))
            }
            Self::Label(key, value) => write!(f, "none that could take it has the label {key}={value}"),
        }
    }
}
