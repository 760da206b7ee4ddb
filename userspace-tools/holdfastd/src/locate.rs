// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Where in the configuration file a key stands, so that an error can say so.

use toml::de::{DeTable, DeValue};

/// A key that is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Table and key, as `service.port`; the table alone if all of it is meant.
    pub key: String,
    /// Which of the tables of that name, from 0.
    pub index: usize,
    /// A sentence without subject.
    pub why: String,
}

impl Wrong {
    /// `key` of the `index`th table of its name.
    pub fn new(key: &str, index: usize, why: impl Into<String>) -> Self {
        Wrong {
            key: key.to_owned(),
            index,
            why: why.into(),
        }
    }

    /// A sentence with the line of `text`, which parses, that the key stands on.
    pub fn at_line(&self, text: &str) -> String {
        match line(text, &self.key, self.index) {
            Some(n) => format!("line {n}: {}: {}", self.key, self.why),
            None => format!("{}: {}", self.key, self.why),
        }
    }
}

/// The line of `key` in the `index`th table of its name, from 1; of the table if it has no such
/// key.
fn line(text: &str, key: &str, index: usize) -> Option<usize> {
    let (table, key) = key.split_once('.').unwrap_or((key, ""));
    let all = DeTable::parse(text).ok()?;
    let (name, value) = all.get_ref().iter().find(|(k, _)| k.get_ref() == table)?;
    let (start, entry) = match value.get_ref() {
        DeValue::Array(list) => {
            let one = list.get(index)?;
            (one.span().start, one.get_ref())
        }
        one => (name.span().start, one),
    };
    let named = |t: &DeTable<'_>| {
        let (k, _) = t.iter().find(|(k, _)| k.get_ref() == key)?;
        Some(k.span().start)
    };
    let at = entry.as_table().and_then(named).unwrap_or(start);
    Some(text.get(..at)?.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[node]\nname = \"a\"\n\n[[peer]]\nname = \"b\"\n\n[[peer]]\n\
                        # a comment\nname = \"c\"\n[records]\nquorum = 1\n";

    #[test]
    fn keys_are_found_where_they_stand() {
        assert_eq!(line(TEXT, "node.name", 0), Some(2));
        assert_eq!(line(TEXT, "peer.name", 0), Some(5));
        assert_eq!(line(TEXT, "peer.name", 1), Some(9));
        assert_eq!(line(TEXT, "records.quorum", 0), Some(11));
    }

    #[test]
    fn what_is_not_there_is_its_table_or_nowhere() {
        assert_eq!(line(TEXT, "peer.address", 1), Some(7));
        assert_eq!(line(TEXT, "node.listen", 0), Some(1));
        assert_eq!(line(TEXT, "service.port", 0), None);
        let wrong = Wrong::new("peer.name", 1, "stands twice");
        assert_eq!(wrong.at_line(TEXT), "line 9: peer.name: stands twice");
        assert_eq!(
            Wrong::new("hooks", 0, "x").at_line(TEXT),
            "hooks: x",
            "no line"
        );
    }
}
