// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! `holdfast bugreport`

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use libholdfast::{Client, Error};
use serde::Serialize;
use serde_json::{json, Value};

use crate::daemon::{DaemonArgs, SOON};
use crate::fail::Fail;
use crate::output::Output;
use crate::report::addresses::Addresses;
use crate::report::{secrets, Files};
use crate::time;

/// Lines of a log that are kept, the newest.
const LINES: usize = 1000;

/// Write a report for somebody who looks for a defect
///
/// Writes what somebody who looks for a defect needs into one file: versions, services, flows,
/// counters, the daemon's view of things, its configuration and logs. Works with the daemon dead
/// and without the module, too. Secrets are never in it; names of objects that were compared are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast bugreport
  holdfast bugreport -o /tmp/report.tar.gz --addresses
  holdfast bugreport -o - | ssh host 'cat >report.tar.gz'

Exit status:
  0  written
  1  could not be written")]
pub(crate) struct Bugreport {
    /// File to write, "-" for standard output [default: holdfast-report-TIME.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave addresses of clients as they are
    #[arg(long)]
    addresses: bool,
    /// Configuration of the daemon
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/holdfast/holdfastd.toml"
    )]
    config: PathBuf,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Bugreport {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Fail> {
        let files = self.collect();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs();
        let mut archive = Vec::new();
        files.archive(seconds, &mut archive)?;
        let path = self.output.clone().unwrap_or_else(|| {
            let stamp = time::now().replace([':', '.'], "-");
            format!("holdfast-report-{stamp}.tar.gz").into()
        });
        if path.as_os_str() == "-" {
            return out.bytes(&archive);
        }
        write(&path, &archive).map_err(|e| Fail::File(path.clone(), e))?;
        let file = json!({"file": path.display().to_string()});
        out.one(&file, |_| path.display().to_string())
    }

    fn collect(&self) -> Files {
        let mut files = Files::default();
        files.add("about.txt", self.about());
        files.add("module.txt", module());
        of_module(&mut files);
        self.of_daemon(&mut files);
        let config = fs::read_to_string(&self.config);
        let shown = match &config {
            Ok(text) => secrets::without(text),
            Err(e) => failed(&self.config.display().to_string(), e),
        };
        files.add("config.json", shown);
        files.add("kernel.log", of_holdfast(&output("dmesg", &["--ctime"])));
        let journal = [
            "-u",
            "holdfastd",
            "-n",
            "1000",
            "--no-pager",
            "--no-hostname",
        ];
        files.add("daemon.log", output("journalctl", &journal));

        let config = config.unwrap_or_default();
        // A secret has no business in any of them; should it be there all the same, it goes.
        let secret = secrets::file(&config).and_then(|f| fs::read_to_string(f).ok());
        let secret = secret.unwrap_or_default().trim().to_owned();
        if !secret.is_empty() {
            files.map(|text| text.replace(&secret, secrets::REMOVED));
        }
        if !self.addresses {
            let mut addresses = Addresses::default();
            addresses.keep(&config);
            addresses.keep(&services());
            files.map(|text| addresses.hide(text));
        }
        files
    }

    fn about(&self) -> String {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|e| failed(path, &e));
        format!(
            "made {}\nholdfast {}\naddresses of clients {}\n\n{}\n{}",
            time::now(),
            env!("CARGO_PKG_VERSION"),
            if self.addresses {
                "as they are"
            } else {
                "replaced"
            },
            read("/proc/version"),
            read("/etc/os-release"),
        )
    }

    fn of_daemon(&self, files: &mut Files) {
        for op in ["status", "peers", "ready", "flows", "timeline"] {
            let text = match self.daemon.ask(&json!({"op": op}), Some(SOON)) {
                Ok(answer) => pretty(&answer),
                Err(e) => format!("{e}\n"),
            };
            files.add(&format!("daemon/{op}.json"), text);
        }
        let text = match self.daemon.ask(&json!({"op": "metrics"}), Some(SOON)) {
            Ok(answer) => answer["text"].as_str().unwrap_or_default().to_owned(),
            Err(e) => format!("{e}\n"),
        };
        files.add("daemon/metrics.txt", text);
    }
}

/// Readable by its owner only, and never in place of a file that is there.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)?.write_all(bytes)
}

fn of_module(files: &mut Files) {
    files.add("services.json", services());
    files.add("flows.json", asked(|c| Ok(c.flows()?.items)));
    let stats = |c: &mut Client| {
        let stats = c
            .stats()?
            .into_iter()
            .map(|s| (s.name, Value::from(s.value)));
        Ok(stats.collect::<serde_json::Map<_, _>>())
    };
    files.add("stats.json", asked(stats));
}

fn services() -> String {
    asked(|c| Ok(c.services()?.items))
}

/// What the module answers, or why it does not.
fn asked<T: Serialize>(question: impl FnOnce(&mut Client) -> Result<T, Error>) -> String {
    match Client::connect().and_then(|mut client| question(&mut client)) {
        Ok(answer) => pretty(&answer),
        Err(e) => format!("{e}\n"),
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|e| e.to_string())
}

fn failed(what: &str, e: &io::Error) -> String {
    format!("{what}: {e}\n")
}

/// Everything that sysfs says of the module.
fn module() -> String {
    let dir = Path::new("/sys/module/holdfast");
    if !dir.exists() {
        return "not loaded\n".into();
    }
    let mut text = String::new();
    let names = [
        "version",
        "srcversion",
        "refcnt",
        "taint",
        "coresize",
        "initstate",
    ];
    let parameters = fs::read_dir(dir.join("parameters")).into_iter().flatten();
    let parameters = parameters.flatten().map(|e| e.path());
    for path in names.iter().map(|n| dir.join(n)).chain(parameters) {
        if let Ok(value) = fs::read_to_string(&path) {
            let name = path.strip_prefix(dir).unwrap_or(&path);
            text.push_str(&format!("{} {}\n", name.display(), value.trim()));
        }
    }
    text
}

/// What a program says.
fn output(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    match command.output() {
        Err(e) => failed(program, &e),
        Ok(said) => {
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            text + &String::from_utf8_lossy(&said.stderr)
        }
    }
}

/// The newest lines that are about us.
fn of_holdfast(text: &str) -> String {
    let ours = |line: &&str| line.to_ascii_lowercase().contains("holdfast");
    let lines: Vec<_> = text.lines().filter(ours).collect();
    let skip = lines.len().saturating_sub(LINES);
    lines[skip..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::read;

    #[test]
    fn a_report_without_daemon_and_module_says_so_and_has_no_secret() {
        let dir = std::env::temp_dir().join(format!("holdfast-report-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let (config, secret) = (dir.join("config"), dir.join("secret"));
        fs::write(&secret, "correct horse battery staple\n").unwrap();
        let text = format!(
            "# correct horse battery staple\n[node]\nname = \"correct horse battery staple\"\n\
             secret-file = {:?}\n",
            secret.display().to_string()
        );
        fs::write(&config, text).unwrap();
        let output = dir.join("report.tar.gz");
        let report = Bugreport {
            output: Some(output.clone()),
            addresses: false,
            config,
            daemon: DaemonArgs::at(dir.join("nobody")),
        };
        let first = report.run(&mut Output::new(true));
        let again = report.run(&mut Output::new(true));
        let files = read(&fs::read(&output).unwrap());
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&output).unwrap().permissions());
        fs::remove_dir_all(&dir).unwrap();
        first.unwrap();
        assert!(again.is_err(), "a file that is there stays");
        assert_eq!(mode & 0o777, 0o600);
        for (name, text) in &files {
            assert!(!text.contains("battery"), "{name}: {text}");
        }
        let of = |name: &str| {
            let name = format!("holdfast-report/{name}");
            let found = files.iter().find(|(n, _)| *n == name);
            &found.unwrap_or_else(|| panic!("no {name}")).1
        };
        assert!(of("daemon/status.json").contains("cannot be reached"));
        assert!(of("config.json").contains("secret-file"));
        assert!(of("about.txt").contains(env!("CARGO_PKG_VERSION")));
        for name in [
            "flows.json",
            "stats.json",
            "kernel.log",
            "daemon.log",
            "module.txt",
        ] {
            of(name);
        }
    }

    #[test]
    fn only_our_lines_are_kept() {
        assert_eq!(of_holdfast("a\n[1] Holdfast: x\nb"), "[1] Holdfast: x");
    }
}
