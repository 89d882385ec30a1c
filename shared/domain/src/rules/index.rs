//! Which rules can match at all: by agent, action type and priority, before anything is compared.

use std::collections::{BTreeSet, HashMap};

use super::MAX_RULES;
use crate::Priority;

const WORDS: usize = MAX_RULES.div_ceil(64);

/// A set of rules, by their place in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places([u64; WORDS]);

impl Places {
    const NONE: Self = Self([0; WORDS]);

    fn add(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The places, in the order of the document.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(word, mut bits)| {
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros() as usize;
                (bits != 0).then(|| {
                    bits &= bits - 1;
                    word * 64 + bit
                })
            })
        })
    }
}

/// For each name that rules give, those that give it; and those that give none.
#[derive(Clone, Debug)]
struct Named {
    any: Places,
    exact: HashMap<String, Places>,
    /// By the text before a final `*`.
    beginnings: HashMap<String, Places>,
    /// Lengths of these texts.
    lengths: BTreeSet<usize>,
}

impl Named {
    fn new() -> Self {
        Self { any: Places::NONE, exact: HashMap::new(), beginnings: HashMap::new(), lengths: BTreeSet::new() }
    }

    fn add(&mut self, place: usize, names: Option<&[String]>, may_end_in_star: bool) {
        let Some(names) = names else { return self.any.add(place) };
        for name in names {
            match name.strip_suffix('*').filter(|_| may_end_in_star) {
                Some(beginning) => {
                    self.lengths.insert(beginning.len());
                    self.beginnings.entry(beginning.to_owned()).or_insert(Places::NONE).add(place);
                }
                None => self.exact.entry(name.clone()).or_insert(Places::NONE).add(place),
            }
        }
    }

    fn of(&self, name: &str) -> Places {
        let exact = self.exact.get(name).copied().unwrap_or(Places::NONE);
        let beginnings = self.lengths.iter().filter_map(|length| self.beginnings.get(name.get(..*length)?));
        beginnings.fold(self.any.or(exact), |places, more| places.or(*more))
    }
}

/// The index of a document.
#[derive(Clone, Debug)]
pub(super) struct Index {
    agents: Named,
    action_types: Named,
    priorities: [Places; 3],
}

impl Index {
    pub(super) fn new() -> Self {
        Self { agents: Named::new(), action_types: Named::new(), priorities: [Places::NONE; 3] }
    }

    /// Adds a rule; `None` is any.
    pub(super) fn add(
        &mut self,
        place: usize,
        agents: Option<&[String]>,
        action_types: Option<&[String]>,
        priorities: Option<&[Priority]>,
    ) {
        self.agents.add(place, agents, false);
        self.action_types.add(place, action_types, true);
        for priority in priorities.unwrap_or(&[Priority::P1, Priority::P2, Priority::P3]) {
            self.priorities[*priority as usize - 1].add(place);
        }
    }

    pub(super) fn candidates(&self, agent_id: &str, action_type: &str, priority: Priority) -> Places {
        let places = self.agents.of(agent_id).and(self.action_types.of(action_type));
        places.and(self.priorities[priority as usize - 1])
    }
}
