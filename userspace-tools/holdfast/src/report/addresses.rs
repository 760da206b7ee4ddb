// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Takes the addresses of clients out of texts: each becomes the same name wherever it stands.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// Names in place of addresses.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    keep: HashSet<IpAddr>,
    names: HashMap<IpAddr, String>,
}

impl Addresses {
    /// Every address in `text`, which names what is no client, is left as it is.
    pub(crate) fn keep(&mut self, text: &str) {
        for word in words(text) {
            if let Some((ip, _)) = parse(word) {
                self.keep.insert(ip);
            }
        }
    }

    /// `text` with names in place of all other addresses.
    pub(crate) fn hide(&mut self, text: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(start) = rest.find(is_part) {
            let (before, tail) = rest.split_at(start);
            let end = tail.find(|c| !is_part(c)).unwrap_or(tail.len());
            let (word, after) = tail.split_at(end);
            out.push_str(before);
            self.word(word, &mut out);
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn word(&mut self, word: &str, out: &mut String) {
        let trimmed = word.trim_end_matches(['.', ':']);
        // An address may end in "::".
        let found = [word, trimmed]
            .into_iter()
            .find_map(|w| Some((w, parse(w)?)));
        let Some((all, (ip, port))) = found.filter(|(_, (ip, _))| self.hides(ip)) else {
            return out.push_str(word);
        };
        let n = self.names.len() + 1;
        out.push_str(
            self.names
                .entry(ip)
                .or_insert_with(|| format!("address-{n}")),
        );
        if let Some(port) = port {
            out.push_str(&format!(":{port}"));
        }
        out.push_str(&word[all.len()..]);
    }

    fn hides(&self, ip: &IpAddr) -> bool {
        !ip.is_loopback() && !ip.is_unspecified() && !self.keep.contains(ip)
    }
}

/// Whether `c` may be part of an address.
fn is_part(c: char) -> bool {
    c.is_ascii_hexdigit() || c == '.' || c == ':'
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_part(c)).filter(|w| !w.is_empty())
}

fn parse(word: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(ip) = word.parse() {
        return Some((ip, None));
    }
    let socket: SocketAddr = word.parse().ok()?;
    Some((socket.ip(), Some(socket.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_one_name() {
        let mut a = Addresses::default();
        a.keep("address = \"10.0.0.80/24\"\n[2001:db8::80]:80");
        let text = "198.51.100.7:40000 > 10.0.0.80:80, 198.51.100.7 at 198.51.100.8.\n\
                    {\"client\":\"[2001:db8::7]:4\",\"service\":\"[2001:db8::80]:80\"}";
        let want = "address-1:40000 > 10.0.0.80:80, address-1 at address-2.\n\
                    {\"client\":\"[address-3]:4\",\"service\":\"[2001:db8::80]:80\"}";
        assert_eq!(a.hide(text), want);
        assert_eq!(a.hide("to 2001:db8::7: gone"), "to address-3: gone");
    }

    #[test]
    fn what_is_no_clients_address_stays() {
        let mut a = Addresses::default();
        let text = "2026-11-21T05:01:09.123Z 7.2.12 0.1.0 02:00:00:00:00:01 127.0.0.1:80 :: \
                    ::1 0x10 deadbeef 1:2 ... ab:cd";
        assert_eq!(a.hide(text), text);
    }
}
