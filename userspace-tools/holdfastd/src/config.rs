// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The configuration file. What is wrong in it is said with line and key.

mod check;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// The other nodes of the support group.
    #[serde(default, rename = "peer")]
    pub peers: Vec<Peer>,
    /// What is protected.
    #[serde(rename = "service")]
    pub services: Vec<Service>,
    /// How deaths are found out.
    #[serde(default)]
    pub heartbeat: Heartbeat,
    /// How records are kept.
    #[serde(default)]
    pub records: Records,
    /// How flows are recovered.
    #[serde(default)]
    pub recovery: Recovery,
    /// How this node hands its addresses over.
    #[serde(default)]
    pub drain: Drain,
    /// Programs to run in place of our own address takeover.
    #[serde(default)]
    pub hooks: Hooks,
    /// Where counters can be read by Prometheus.
    #[serde(default)]
    pub metrics: Metrics,
    /// How this node finds out whether it could take over.
    #[serde(default)]
    pub readiness: Readiness,
    /// Where it was read; empty if it was not.
    #[serde(skip)]
    pub file: PathBuf,
}

/// This node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Node {
    /// Its name in the group.
    pub name: String,
    /// Who is first takes an address that nobody has; unique in the group, low is first.
    pub priority: u32,
    /// Where heartbeats (UDP) and records (TCP) of peers arrive.
    pub listen: SocketAddr,
    /// A file with the secret of the group, readable by its owner only.
    pub secret_file: PathBuf,
    /// The control socket.
    #[serde(default = "control")]
    pub control: PathBuf,
}

fn control() -> PathBuf {
    "/run/holdfast.sock".into()
}

/// Another node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peer {
    /// Its name in the group.
    pub name: String,
    /// As [`Node::priority`].
    pub priority: u32,
    /// Its [`Node::listen`].
    pub address: SocketAddr,
}

/// A protected service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// What metrics and messages call it; address and port if nothing else.
    #[serde(default)]
    pub name: Option<String>,
    /// Where this node's own server can be asked while the address is elsewhere; the loopback
    /// address and the same port if nothing else, nowhere if it is `"none"`.
    #[serde(default)]
    pub check: Option<LocalServer>,
    /// Port at which the servers of peers are asked, at the peers' own addresses, for what this
    /// node's own server lacks; the service's if nothing else, and 0: they are not.
    #[serde(default)]
    pub next_port: Option<u16>,
    /// Its address, with the length of its prefix on the interface.
    pub address: Prefix,
    /// The interface that has the address on the node that owns it.
    pub interface: String,
    /// Who puts the address there and takes it away.
    #[serde(default)]
    pub moved_by: MovedBy,
    /// Its port.
    pub port: u16,
    /// What is done to its flows.
    #[serde(default)]
    pub mode: Mode,
    /// When the first bytes of a response may leave.
    #[serde(default)]
    pub commit: Commit,
    /// Its servers answer the same request with the same bytes, whenever and whichever is asked:
    /// what cannot be continued otherwise is asked for again.
    #[serde(default)]
    pub deterministic: bool,
    /// Longest wait of a response for its record in milliseconds.
    #[serde(default = "hold_ms")]
    pub hold_ms: u32,
    /// Longest wait of an orphan for a verdict in milliseconds.
    #[serde(default = "verdict_ms")]
    pub verdict_ms: u32,
    /// How long a local server that has died is waited for in milliseconds, before its
    /// connections go to another node.
    #[serde(default = "restart_ms")]
    pub restart_ms: u64,
    /// Most bytes of a response that are logged.
    #[serde(default = "head_limit")]
    pub head_limit: u32,
    /// Most bytes of a request that the ack gate holds.
    #[serde(default = "request_limit")]
    pub request_limit: u32,
}

impl Service {
    /// Its address and port.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address.addr, self.port)
    }

    /// What it is called.
    pub fn name(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => self.socket().to_string(),
        }
    }

    /// Whether no byte of a response leaves before its record is safe.
    pub fn is_strict(&self) -> bool {
        self.mode == Mode::Protect && self.commit == Commit::Strict
    }

    /// Where this node's own server can be asked.
    pub fn check(&self) -> Option<SocketAddr> {
        match self.check {
            Some(LocalServer::None) => None,
            Some(LocalServer::At(at)) => Some(at),
            None if self.address.addr.is_ipv4() => {
                Some((std::net::Ipv4Addr::LOCALHOST, self.port).into())
            }
            None => Some((std::net::Ipv6Addr::LOCALHOST, self.port).into()),
        }
    }
}

/// Who moves an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MovedBy {
    /// This daemon.
    #[default]
    Holdfastd,
    /// Another program, which decides where it belongs: who has it is its owner.
    Others,
}

/// Where a server can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalServer {
    /// Nowhere.
    None,
    /// There.
    At(SocketAddr),
}

impl<'de> Deserialize<'de> for LocalServer {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let wrong = || serde::de::Error::custom("neither ADDRESS:PORT nor \"none\"");
        match &*text {
            "none" => Ok(LocalServer::None),
            at => at.parse().map(LocalServer::At).map_err(|_| wrong()),
        }
    }
}

// The defaults of the module (`rust/services.rs`) but for `verdict-ms`; always said, so that a value
// that was taken out of the file does not stay in the module.
fn hold_ms() -> u32 {
    1000
}
fn verdict_ms() -> u32 {
    20_000
}
fn restart_ms() -> u64 {
    3000
}
fn head_limit() -> u32 {
    32 * 1024
}
fn request_limit() -> u32 {
    16 * 1024
}

/// What is done to the flows of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Log and count.
    Observe,
    /// Gate, catch orphans and recover.
    #[default]
    Protect,
}

/// When the first bytes of a response may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// At once.
    Eager,
    /// Once the record is safe.
    #[default]
    Strict,
}

/// An address with the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The address.
    pub addr: IpAddr,
    /// Bits of the network.
    pub len: u8,
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (addr, len) = s
            .split_once('/')
            .ok_or("an address needs a prefix length, as /24")?;
        let addr: IpAddr = addr
            .parse()
            .map_err(|_| format!("{addr:?} is not an IP address"))?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let len = len.parse().ok().filter(|l| (1..=most).contains(l));
        Ok(Prefix {
            addr,
            len: len.ok_or(format!("prefix length must be 1 to {most}"))?,
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// How deaths are found out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Heartbeat {
    /// Milliseconds between two heartbeats.
    pub interval_ms: u64,
    /// Heartbeats that may be missed before a node counts as dead.
    pub misses: u32,
    /// What else is asked before a node counts as dead.
    pub check: Check,
    /// A neighbour on the segment of the first service that answers while this node is
    /// connected; without it, the router of the default route, if that is on such a segment.
    pub gateway: Option<IpAddr>,
}

/// What else is asked before a node counts as dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Whether a machine on the segment answers for its addresses, and the gateway to us.
    #[default]
    Neighbour,
    /// Nothing.
    None,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Heartbeat {
            interval_ms: 50,
            misses: 3,
            check: Check::default(),
            gateway: None,
        }
    }
}

impl Heartbeat {
    /// Time between two heartbeats.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

/// How records are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Records {
    /// Peers that must have a record before a response leaves (strict); as many as are
    /// alive, if those are fewer.
    pub quorum: usize,
    /// Most records of peers that are kept.
    pub limit: usize,
}

impl Default for Records {
    fn default() -> Self {
        Records {
            quorum: 1,
            limit: 1 << 20,
        }
    }
}

/// How flows are recovered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Recovery {
    /// Flows that are recovered at the same time.
    pub concurrency: usize,
    /// Milliseconds for which a client is made to say where it stands; probed anew whenever
    /// the kernel has given a probe up (10 s). Then its record is kept as that of an idle one.
    pub locate_ms: u64,
    /// Seconds that the record of a client without a word is kept after a takeover.
    pub idle_s: u64,
    /// Milliseconds that the local server is given to answer.
    pub answer_ms: u64,
}

impl Default for Recovery {
    fn default() -> Self {
        Recovery {
            concurrency: 256,
            locate_ms: 60_000,
            idle_s: 9000,
            answer_ms: 10_000,
        }
    }
}

/// How this node hands its addresses over.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Drain {
    /// Milliseconds that `holdfast drain` waits for flows that no successor could continue.
    pub deadline_ms: u64,
    /// The same for the end of the daemon; 0: at once.
    pub stop_ms: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Drain {
            deadline_ms: 30_000,
            stop_ms: 5_000,
        }
    }
}

impl Drain {
    /// [`Drain::stop_ms`].
    pub fn stop(&self) -> Duration {
        Duration::from_millis(self.stop_ms)
    }
}

/// Programs that move addresses in our place, with their arguments. They find the address
/// in HOLDFAST_ADDRESS, HOLDFAST_PREFIX and HOLDFAST_INTERFACE.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Hooks {
    /// Run when this node becomes the owner of an address.
    pub up: Option<Vec<String>>,
    /// Run when it is no more.
    pub down: Option<Vec<String>>,
}

/// Where counters can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Metrics {
    /// Address and port of an HTTP server for them; none if absent.
    pub listen: Option<SocketAddr>,
    /// It may be an address that others than this machine reach.
    pub remote: bool,
}

/// How this node finds out whether it could take over.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Readiness {
    /// Milliseconds between two questions to the local server.
    pub interval_ms: u64,
    /// Most milliseconds that clocks of two nodes may differ by.
    pub clock_ms: u64,
}

impl Default for Readiness {
    fn default() -> Self {
        Readiness {
            interval_ms: 2000,
            clock_ms: 1000,
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// A sentence for a person, with file, line and key.
    pub fn read(path: &Path) -> Result<Config, String> {
        Self::read_with_text(path).map(|(config, _)| config)
    }

    /// Reads a file; also its text, for what more there may be to say of its keys.
    ///
    /// # Errors
    ///
    /// As [`Config::read`].
    pub fn read_with_text(path: &Path) -> Result<(Config, String), String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut config = Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        config.file = path.to_owned();
        Ok((config, text))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// A sentence for a person, with line and key.
    pub fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check().map_err(|wrong| wrong.at_line(text))?;
        Ok(config)
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    pub const EXAMPLE: &str = r#"
[node]
name = "a"
priority = 1
listen = "10.0.0.1:4870"
secret-file = "/etc/holdfast/secret"

[[peer]]
name = "b"
priority = 2
address = "10.0.0.2:4870"

[[service]]
address = "192.0.2.10/24"
interface = "eth0"
port = 80
"#;

    #[test]
    fn a_small_file_is_enough() {
        let c = Config::parse(EXAMPLE).unwrap();
        assert_eq!(c.services[0].commit, Commit::Strict);
        assert_eq!(c.heartbeat.interval(), Duration::from_millis(50));
        assert_eq!(c.services[0].address.to_string(), "192.0.2.10/24");
    }

    #[test]
    fn the_example_says_the_defaults() {
        let full = Config::parse(include_str!("../holdfastd.toml")).unwrap();
        let small = Config::parse(EXAMPLE).unwrap();
        assert_eq!(format!("{full:?}"), format!("{small:?}"));
    }

    /// The keys that may stand where `text` has a wrong one.
    fn known(text: &str) -> BTreeSet<String> {
        let e = Config::parse(text).unwrap_err();
        let (_, keys) = e.rsplit_once("expected ").unwrap();
        let keys = keys.split('`').skip(1).step_by(2);
        keys.map(str::to_owned).collect()
    }

    #[test]
    fn example_and_page_have_every_key() {
        let mut said = BTreeMap::<_, BTreeSet<String>>::new();
        let mut section = "";
        for line in include_str!("../holdfastd.toml").lines() {
            let line = line.strip_prefix('#').unwrap_or(line);
            let key = line.split_once(" = ").map_or("", |(key, _)| key);
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
            } else if !key.is_empty() && !key.contains(' ') {
                said.entry(section).or_default().insert(key.to_owned());
            }
        }
        let sections: BTreeSet<_> = said.keys().map(|s| (*s).to_owned()).collect();
        assert_eq!(sections, known(&format!("wrong = 1\n{EXAMPLE}")));
        let page = include_str!("../../../Documentation/daemon.md");
        for (section, keys) in said {
            let header = format!("[{section}]");
            let text = match EXAMPLE.contains(&header) {
                true => EXAMPLE.replace(&header, &format!("{header}\nwrong = 1")),
                false => format!("{EXAMPLE}{header}\nwrong = 1"),
            };
            // An array's header has two brackets.
            let text = text.replace("\nwrong = 1]", "]\nwrong = 1");
            assert_eq!(keys, known(&text), "{section}");
            for key in keys {
                let told = [format!("`{section}.{key}`"), format!("`.{key}`")];
                let told = told.iter().any(|t| page.contains(t));
                assert!(told, "daemon.md does not say {section}.{key}");
            }
        }
    }

    #[test]
    fn an_error_names_line_and_key() {
        let broken = |from: &str, to: &str| Config::parse(&EXAMPLE.replace(from, to)).unwrap_err();
        let e = broken("priority = 1", "priorty = 1");
        assert!(e.contains("line 4") && e.contains("priorty"), "{e}");
        let e = broken("192.0.2.10/24", "192.0.2.10");
        assert!(e.contains("line 14") && e.contains("prefix length"), "{e}");
        let e = broken("port = 80", "port = 0");
        assert_eq!(e, "line 16: service.port: must not be 0");
        let e = broken("name = \"b\"", "name = \"a\"");
        assert_eq!(e, "line 9: peer.name: \"a\" stands twice");
        let e = broken("[[peer]]", "[metrics]\nlisten = \"10.0.0.1:9\"\n[[peer]]");
        assert!(e.starts_with("line 9: metrics.listen: others"), "{e}");
    }
}
