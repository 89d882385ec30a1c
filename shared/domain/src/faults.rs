//! The faults of one call, all together and never more than an answer has room for.
//!
//! An answer's size must not follow its input's: a body of 60 KiB can have 30,000 faults, each with a pointer as long
//! as the body. So the first [`Faults::LISTED`] are kept and the others counted, and a pointer ends after
//! [`Pointer::LONGEST`] characters.

use serde::Serialize;

/// One fault of a body, of the parameters or of the headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fault {
    /// RFC 6901 pointer to the member, without `#`; empty for the body itself. At most 256 characters: a longer one is
    /// cut and ends in `…`.
    pub pointer: String,
    /// The fault, for a person.
    pub detail: String,
}

/// The faults of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    listed: Vec<Fault>,
    more: usize,
}

impl Faults {
    /// Most faults that are listed (contract, "Errors"). Those after them are counted.
    pub const LISTED: usize = 100;
    /// Longest detail, in characters; none of ours comes near.
    const LONGEST_DETAIL: usize = 1_000;

    /// Adds a fault at `pointer`, which is an RFC 6901 pointer already.
    pub fn add(&mut self, pointer: impl AsRef<str>, detail: impl Into<String>) {
        self.add_with(|| (Pointer::default().raw(pointer.as_ref()), detail.into()));
    }

    /// Adds a fault of the member or parameter with this name, which may hold any characters.
    pub fn add_at(&mut self, name: &str, detail: impl Into<String>) {
        self.add_with(|| (Pointer::default().member(name), detail.into()));
    }

    /// Adds a fault that is worked out only where it is listed.
    pub(super) fn add_with(&mut self, fault: impl FnOnce() -> (Pointer, String)) {
        if self.listed.len() < Self::LISTED {
            let (pointer, detail) = fault();
            let detail = match detail.char_indices().nth(Self::LONGEST_DETAIL) {
                Some((end, _)) => format!("{}…", &detail[..end]),
                None => detail,
            };
            self.listed.push(Fault { pointer: pointer.into_string(), detail });
        } else {
            self.more += 1;
        }
    }

    /// Adds those of another part of the call.
    pub fn extend(&mut self, other: Self) {
        let room = Self::LISTED - self.listed.len();
        self.more += other.more + other.listed.len().saturating_sub(room);
        self.listed.extend(other.listed.into_iter().take(room));
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The first of them.
    #[must_use]
    pub fn listed(&self) -> &[Fault] {
        &self.listed
    }

    /// How many there are beside those listed.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }
}

/// An RFC 6901 pointer that stops growing in time.
#[derive(Debug, Default)]
pub(super) struct Pointer {
    text: String,
    characters: usize,
}

impl Pointer {
    /// Most characters of a pointer (contract, "Errors").
    pub(super) const LONGEST: usize = 256;

    /// The pointer to a member of what this points to.
    pub(super) fn member(mut self, name: &str) -> Self {
        self.push('/');
        for character in name.chars() {
            if self.is_full() {
                break;
            }
            match character {
                '~' => self.push_both("~0"),
                '/' => self.push_both("~1"),
                other => self.push(other),
            }
        }
        self
    }

    /// The pointer to an item of what this points to.
    pub(super) fn item(self, index: usize) -> Self {
        self.member(&index.to_string())
    }

    /// This and a pointer that is written already.
    fn raw(mut self, pointer: &str) -> Self {
        pointer.chars().take(Self::LONGEST + 1).for_each(|character| self.push(character));
        self
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }

    fn is_full(&self) -> bool {
        self.characters >= Self::LONGEST
    }

    /// An escape is whole or not there.
    fn push_both(&mut self, escape: &'static str) {
        if self.characters + 2 < Self::LONGEST {
            self.text.push_str(escape);
            self.characters += 2;
        } else {
            self.cut();
        }
    }

    fn push(&mut self, character: char) {
        if self.characters + 1 < Self::LONGEST {
            self.text.push(character);
            self.characters += 1;
        } else {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if !self.is_full() {
            self.text.push('…');
            self.characters = Self::LONGEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hundred_are_listed_and_the_others_counted() {
        let mut faults = Faults::default();
        (0..90).for_each(|number| faults.add(format!("/{number}"), "is wrong"));
        let mut others = faults.clone();
        others.extend(faults);
        assert_eq!((others.listed().len(), others.more()), (100, 80));
        others.add_with(|| panic!("worked out for nothing"));
        assert_eq!((others.listed().len(), others.more()), (100, 81));
    }

    #[test]
    fn a_long_pointer_is_cut_between_characters_and_never_within_an_escape() {
        for name in ["ü", "~", "/", "x", "\u{0}"] {
            for before in 0..4 {
                let pointer = Pointer::default().member(&"x".repeat(before)).member(&name.repeat(100_000)).item(7);
                let text = pointer.into_string();
                assert!(text.chars().count() <= Pointer::LONGEST && text.ends_with('…'), "{text}");
                assert!(!text.replace("~0", "").replace("~1", "").contains('~'), "{text}");
            }
        }
        assert_eq!(Pointer::default().member("a~/b").item(1).into_string(), "/a~0~1b/1");
    }
}
