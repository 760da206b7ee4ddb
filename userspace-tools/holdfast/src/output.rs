// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Standard output, for people or for programs.

use std::io::{self, StdoutLock, Write};

use serde::Serialize;

use crate::fail::Fail;

/// Where results go.
pub(crate) struct Output {
    /// JSON is wanted.
    json: bool,
    stdout: StdoutLock<'static>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Output {
            json,
            stdout: io::stdout().lock(),
        }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One result: `value` on a line of JSON, or the text that `text` makes of it.
    pub(crate) fn one<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Fail> {
        let line = if self.json { json(value)? } else { text(value) };
        self.line(&line)
    }

    /// Results: an array, or a text each.
    pub(crate) fn many<T: Serialize>(
        &mut self,
        values: &[T],
        text: impl Fn(&T) -> String,
    ) -> Result<(), Fail> {
        if self.json {
            return self.line(&json(&values)?);
        }
        values.iter().try_for_each(|value| self.line(&text(value)))
    }

    /// What is neither for people nor JSON.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Fail> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()?;
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), Fail> {
        if !line.is_empty() {
            writeln!(self.stdout, "{line}")?;
            self.stdout.flush()?;
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<String, Fail> {
    serde_json::to_string(value).map_err(|e| Fail::Other(e.to_string()))
}

/// Says something beside the result.
pub(crate) fn note(what: &str) {
    eprintln!("holdfast: {what}");
}
