// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What a report is made of, and what must not be in it.

pub(crate) mod addresses;
pub(crate) mod secrets;

use std::io::{self, Write};

use flate2::write::GzEncoder;
use flate2::Compression;

/// The folder in the archive.
const FOLDER: &str = "holdfast-report";

/// Files of text, in the order in which they are to be read.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<(String, String)>);

impl Files {
    /// One more.
    pub(crate) fn add(&mut self, name: &str, text: impl Into<String>) {
        self.0.push((name.to_owned(), text.into()));
    }

    /// Changes every text.
    pub(crate) fn map(&mut self, mut change: impl FnMut(&str) -> String) {
        for (_, text) in &mut self.0 {
            *text = change(text);
        }
    }

    /// Writes them as a compressed archive. `time`: seconds since 1970.
    ///
    /// # Errors
    ///
    /// As of writing to `out`.
    pub(crate) fn archive(&self, time: u64, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::default()));
        for (name, text) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(time);
            archive.append_data(&mut header, format!("{FOLDER}/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Read;

    /// The files of an archive.
    pub(crate) fn read(bytes: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
        let file = |e: io::Result<tar::Entry<'_, _>>| {
            let mut entry: tar::Entry<'_, flate2::read::GzDecoder<&[u8]>> = e.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (name, text)
        };
        archive.entries().unwrap().map(file).collect()
    }

    #[test]
    fn an_archive_can_be_read_again() {
        let mut files = Files::default();
        files.add("a.txt", "one");
        files.add("b/c.txt", "");
        files.map(|t| t.replace("one", "two"));
        let mut out = Vec::new();
        files.archive(1_000_000_000, &mut out).unwrap();
        let pair = |n: &str, t: &str| (n.to_owned(), t.to_owned());
        let want = [
            pair("holdfast-report/a.txt", "two"),
            pair("holdfast-report/b/c.txt", ""),
        ];
        assert_eq!(read(&out), want);
    }
}
