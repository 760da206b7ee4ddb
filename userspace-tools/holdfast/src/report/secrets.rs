// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Takes secrets out of a configuration.

use std::path::PathBuf;

use toml::{Table, Value};

/// What stands in place of what was taken out.
pub(crate) const REMOVED: &str = "(removed)";

/// Parts of the names of keys whose values nobody else is to see.
const SECRET: [&str; 7] = [
    "secret",
    "password",
    "passphrase",
    "passwd",
    "token",
    "key",
    "credential",
];

/// A configuration that can be shown, as JSON: values only, as comments may say anything. One
/// that cannot be read is not shown at all, as nobody knows what of it is secret.
pub(crate) fn without(text: &str) -> String {
    match toml::from_str::<Table>(text) {
        Ok(mut table) => {
            clean(&mut table);
            let json = serde_json::to_string_pretty(&table);
            json.unwrap_or_else(|e| e.to_string())
        }
        // The message itself quotes the line.
        Err(e) => {
            let line = e.span().and_then(|s| text.get(..s.start));
            let line = line.map_or(0, |t| t.matches('\n').count() + 1);
            format!("not shown: it is not well formed (line {line})")
        }
    }
}

/// The file with the secret of the group.
pub(crate) fn file(text: &str) -> Option<PathBuf> {
    let table = toml::from_str::<Table>(text).ok()?;
    let path = table.get("node")?.get("secret-file")?.as_str()?;
    Some(path.into())
}

fn clean(table: &mut Table) {
    for (name, value) in table.iter_mut() {
        let lower = name.to_ascii_lowercase();
        let is_path = lower == "secret-file";
        if !is_path && SECRET.iter().any(|part| lower.contains(part)) {
            *value = Value::String(REMOVED.into());
        } else if lower == "hooks" || lower == "fence" {
            programs(value);
        } else {
            nested(value);
        }
    }
}

fn nested(value: &mut Value) {
    match value {
        Value::Table(table) => clean(table),
        Value::Array(list) => list.iter_mut().for_each(nested),
        _ => {}
    }
}

/// Keeps programs, without their arguments.
fn programs(value: &mut Value) {
    match value {
        Value::Table(table) => table.iter_mut().for_each(|(_, v)| programs(v)),
        Value::Array(words) => {
            let arguments = words.iter_mut().skip(1);
            arguments.for_each(|w| *w = Value::String(REMOVED.into()));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_gone_and_the_rest_is_there() {
        let text = "# the old one was hunter1\n[node]\nname = \"a\"\nsecret = \"hunter2\"\n\
                    secret-file = \"/etc/holdfast/secret\"\n[[peer]]\nname = \"b\"\n\
                    api-token = \"hunter3\"\n[hooks]\nup = [\"/bin/up\", \"--pass=hunter4\"]\n\
                    [store]\nPassword = { a = \"hunter5\" }\n";
        let shown = without(text);
        assert!(!shown.contains("hunter"), "{shown}");
        for kept in ["/etc/holdfast/secret", "/bin/up", "\"a\"", "\"b\"", REMOVED] {
            assert!(shown.contains(kept), "{kept} is not in {shown}");
        }
        assert_eq!(file(text), Some("/etc/holdfast/secret".into()));
    }

    #[test]
    fn what_is_not_well_formed_is_not_shown() {
        let shown = without("[node]\nsecret = hunter2\n");
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("line 2"), "{shown}");
        assert_eq!(file("= x"), None);
    }
}
