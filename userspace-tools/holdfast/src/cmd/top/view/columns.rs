// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The columns of connections, and which of them fit.

use super::super::board::Row;
use super::units::{rate, span};

/// A column of connections.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: usize,
    /// Numbers stand on the right.
    pub(super) right: bool,
    /// Columns with higher numbers go first where room is short.
    pub(super) rank: u8,
    pub(super) text: fn(&Row) -> String,
}

const COLUMNS: [Column; 8] = [
    Column {
        title: "CLIENT",
        width: 21,
        right: false,
        rank: 0,
        text: |r| r.key.client.to_string(),
    },
    Column {
        title: "SERVICE",
        width: 21,
        right: false,
        rank: 5,
        text: |r| r.key.service.to_string(),
    },
    Column {
        title: "PHASE",
        width: 8,
        right: false,
        rank: 3,
        text: |r| r.phase.name().to_owned(),
    },
    Column {
        title: "PROTECTED",
        width: 18,
        right: false,
        rank: 2,
        text: |r| r.protection.clone().unwrap_or_else(|| "-".into()),
    },
    Column {
        title: "RATE",
        width: 9,
        right: true,
        rank: 1,
        text: |r| r.bytes_per_second.map_or_else(|| "-".into(), rate),
    },
    Column {
        title: "STALL",
        width: 6,
        right: true,
        rank: 4,
        text: |r| {
            r.stalled_ms
                .filter(|ms| *ms > 0)
                .map_or_else(|| "-".into(), span)
        },
    },
    Column {
        title: "AGE",
        width: 7,
        right: true,
        rank: 6,
        text: |r| format!("{}{}", if r.older { ">" } else { "" }, span(r.age_ms)),
    },
    Column {
        title: "GEN",
        width: 4,
        right: true,
        rank: 7,
        text: |r| r.generation.to_string(),
    },
];

/// The columns that fit into `width`, each with its own.
pub(super) fn columns(rows: &[Row], width: usize) -> Vec<(&'static Column, usize)> {
    let wide = |c: &Column| {
        // Addresses of IPv6 are as long as they are; other texts are cut.
        let longest = rows.iter().map(|r| (c.text)(r).len()).max().unwrap_or(0);
        match c.title {
            "CLIENT" | "SERVICE" | "PROTECTED" => longest.clamp(c.width, 47),
            _ => longest.max(c.width),
        }
    };
    let mut chosen = Vec::new();
    let mut used = 0;
    for rank in 0..COLUMNS.len() as u8 {
        let Some(column) = COLUMNS.iter().find(|c| c.rank == rank) else {
            continue;
        };
        let wide = wide(column);
        if used + wide > width && !chosen.is_empty() {
            break;
        }
        used += wide + 1;
        chosen.push((column, wide));
    }
    // As they stand above, whatever their rank.
    let place = |c: &Column| COLUMNS.iter().position(|d| d.title == c.title);
    chosen.sort_by_key(|(c, _)| place(c));
    chosen
}
