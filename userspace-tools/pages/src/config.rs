// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfastd.toml(5)`: the table of keys in `Documentation/daemon.md`, and the example.

use clap_mangen::roff::{bold, italic, roman, Inline, Roff};

const PAGE: &str = include_str!("../../../Documentation/daemon.md");
const EXAMPLE: &str = include_str!("../../holdfastd/holdfastd.toml");

/// The rows of the table that begins with a row of these titles: key and meaning.
fn rows<'a>(page: &'a str, titles: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    page.lines()
        .map(str::trim)
        .skip_while(move |line| *line != titles)
        .skip(2)
        .map_while(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .filter_map(|row| row.split_once('|'))
        .map(|(key, meaning)| (key.trim(), meaning.trim()))
}

/// Markdown of one line, as far as the table has it: code in backquotes, links.
fn inline(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    for (n, part) in text.split('`').enumerate() {
        if n % 2 == 1 {
            parts.push(italic(part));
            continue;
        }
        let mut rest = part;
        // [words](target) becomes words; other brackets are what they are.
        while let Some((before, after, end)) = rest.find("](").and_then(|middle| {
            let begin = rest[..middle].rfind('[')?;
            let end = middle + rest[middle..].find(')')?;
            Some((begin, middle, end))
        }) {
            parts.push(roman(&rest[..before]));
            parts.push(roman(&rest[before + 1..after]));
            rest = &rest[end + 1..];
        }
        parts.push(roman(rest));
    }
    parts
}

/// The page.
pub(crate) fn page() -> String {
    let mut roff = Roff::new();
    let source = concat!("Holdfast ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["holdfastd.toml", "5", "", source, "Holdfast"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("holdfastd.toml - configuration of holdfastd")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        roman("The file "),
        italic("/etc/holdfast/holdfastd.toml"),
        roman(
            " is in TOML. holdfastd --check says what is wrong with it, with line and key; \
             holdfast reload puts most changes into effect. A key a.b stands as b in the table \
             [a]; peers and services are arrays of tables, [[peer]] and [[service]]. Defaults \
             are in brackets.",
        ),
    ]);
    roff.control("SH", ["KEYS"]);
    for (key, meaning) in rows(PAGE, "| key | meaning |") {
        roff.control("TP", []);
        roff.text([bold(key.replace('`', ""))]);
        roff.text(inline(meaning));
    }
    roff.control("SH", ["RELOAD"]);
    for (what, how) in rows(PAGE, "| can be changed | how |") {
        roff.control("TP", []);
        roff.text(inline(what));
        roff.text(inline(how));
    }
    roff.control("SH", ["EXAMPLE"]);
    roff.control("nf", []);
    for line in EXAMPLE.lines().filter(|line| !line.starts_with("# SPDX")) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.extend([crate::see_also(&[("holdfastd", "8"), ("holdfast", "8")])]);
    roff.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_example_is_described() {
        let described: Vec<_> = rows(PAGE, "| key | meaning |")
            .flat_map(|(keys, _)| keys.split(['`', ',', '.', ' ']))
            .collect();
        let keys = EXAMPLE.lines().filter_map(|line| {
            let (key, _) = line.trim_start_matches('#').split_once('=')?;
            let key = key.trim();
            (!key.contains(' ')).then_some(key)
        });
        let mut count = 0;
        for key in keys {
            assert!(described.contains(&key), "{key} is not in daemon.md");
            count += 1;
        }
        assert!(count > 20);
    }

    #[test]
    fn links_and_code_are_no_longer_markdown() {
        let mut roff = Roff::new();
        roff.text(inline("see [below](#observe) [`protect`]"));
        assert_eq!(roff.to_roff().trim_end(), "see below [\\fIprotect\\fR]");
    }
}
