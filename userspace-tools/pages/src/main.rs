// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast-pages DIRECTORY`: writes manual pages and shell completions, made from what parses
//! the command lines and from `Documentation/daemon.md`. Packaging runs it; nobody installs it.

mod config;
mod daemon;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::roff::{bold, roman, Roff};
use clap_mangen::Man;

/// The section of all pages but that of the configuration.
const SECTION: &str = "8";

/// The page of one command; `more` are its last sections.
fn page(command: &Command, more: &Roff, out: &mut impl Write) -> io::Result<()> {
    let man = Man::new(command.clone())
        .section(SECTION)
        .manual("Holdfast")
        .source(concat!("Holdfast ", env!("CARGO_PKG_VERSION")));
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(out)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(out)?;
    }
    more.to_writer(out)
}

/// The section that names other pages.
fn see_also(pages: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut text = Vec::new();
    for (n, (name, section)) in pages.iter().enumerate() {
        let end = if n + 1 < pages.len() { ", " } else { "" };
        text.extend([bold(*name), roman(format!("({section}){end}"))]);
    }
    roff.text(text);
    roff
}

/// The pages of a command and of all its subcommands. The command is built.
fn pages(command: &Command, dir: &Path) -> io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let more = see_also(&match name {
        "holdfast" => vec![("holdfastd", SECTION), ("holdfastd.toml", "5")],
        _ => vec![("holdfast", SECTION), ("holdfastd", SECTION)],
    });
    let path = dir.join(format!("{name}.{SECTION}"));
    page(command, &more, &mut File::create(path)?)?;
    command
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .try_for_each(|c| pages(c, dir))
}

fn write(dir: &Path) -> io::Result<()> {
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    let mut tool = holdfast::command().disable_help_subcommand(true);
    tool.build();
    pages(&tool, &man)?;
    let mut page_of_daemon = File::create(man.join(format!("holdfastd.{SECTION}")))?;
    page(&daemon::command(), &daemon::sections(), &mut page_of_daemon)?;
    fs::write(man.join("holdfastd.toml.5"), config::page())?;

    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let folder = dir.join(shell.to_string());
        fs::create_dir_all(&folder)?;
        for (name, mut command) in [
            ("holdfast", holdfast::command()),
            ("holdfastd", daemon::command()),
        ] {
            clap_complete::generate_to(shell, &mut command, name, &folder)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: holdfast-pages DIRECTORY");
        return ExitCode::from(2);
    };
    match write(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-pages: {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}
