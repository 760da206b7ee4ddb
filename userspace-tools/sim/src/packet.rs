// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! TCP packets, written and read independently of the core, which they check.

use holdfast_core::wire::{flags, Endpoint};
use std::fmt;

/// A TCP segment with its addresses. Numbers are in host byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// 4 or 6.
    pub family: u8,
    /// Where it comes from.
    pub from: Endpoint,
    /// Where it goes to.
    pub to: Endpoint,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits.
    pub flags: u8,
    /// Window field, unscaled.
    pub window: u16,
    /// Maximum segment size, of a SYN.
    pub mss: Option<u16>,
    /// Window scale, of a SYN.
    pub wscale: Option<u8>,
    /// SACK permitted, of a SYN.
    pub sack_ok: bool,
    /// TSval and TSecr.
    pub ts: Option<(u32, u32)>,
    /// SACK blocks, D-SACK first.
    pub sack: Vec<(u32, u32)>,
    /// Data.
    pub payload: Vec<u8>,
}

/// RFC 1071, two bytes at a time.
fn sum(mut acc: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    for w in &mut words {
        acc += u64::from(u16::from_be_bytes([w[0], w[1]]));
    }
    if let [last] = words.remainder() {
        acc += u64::from(*last) << 8;
    }
    acc
}

fn fold(mut acc: u64) -> u16 {
    while acc > 0xffff {
        acc = (acc & 0xffff) + (acc >> 16);
    }
    acc as u16
}

impl Tcp {
    /// Whether a control bit is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sequence numbers that it takes.
    pub fn seq_len(&self) -> u32 {
        self.payload.len() as u32
            + u32::from(self.has(flags::SYN))
            + u32::from(self.has(flags::FIN))
    }

    fn options(&self) -> Vec<u8> {
        let mut o = Vec::new();
        if let Some(mss) = self.mss {
            o.extend([2, 4]);
            o.extend(mss.to_be_bytes());
        }
        if self.sack_ok {
            o.extend([4, 2]);
        }
        if let Some((val, ecr)) = self.ts {
            if !self.sack_ok {
                o.extend([1, 1]);
            }
            o.extend([8, 10]);
            o.extend(val.to_be_bytes());
            o.extend(ecr.to_be_bytes());
        }
        if let Some(w) = self.wscale {
            o.extend([1, 3, 3, w]);
        }
        if !self.sack.is_empty() {
            o.extend([1, 1, 5, 2 + 8 * self.sack.len() as u8]);
            for (l, r) in &self.sack {
                o.extend(l.to_be_bytes());
                o.extend(r.to_be_bytes());
            }
        }
        while o.len() % 4 != 0 {
            o.push(1);
        }
        o
    }

    /// The packet from its network header on. One of more than 64 KiB has length 0 in it, as a
    /// super-packet.
    pub fn encode(&self) -> Vec<u8> {
        let options = self.options();
        assert!(options.len() <= 40, "{self}");
        let tcp_len = 20 + options.len() + self.payload.len();
        let n = if self.family == 4 { 4 } else { 16 };
        let (source, dest) = (&self.from.addr[..n], &self.to.addr[..n]);
        let mut b = Vec::with_capacity(60 + tcp_len);
        if self.family == 4 {
            let len = u16::try_from(20 + tcp_len).unwrap_or(0);
            b.extend([0x45, 0]);
            b.extend(len.to_be_bytes());
            b.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            b.extend(source);
            b.extend(dest);
            let check = !fold(sum(0, &b));
            b[10..12].copy_from_slice(&check.to_be_bytes());
        } else {
            b.extend([0x60, 0, 0, 0]);
            b.extend(u16::try_from(tcp_len).unwrap_or(0).to_be_bytes());
            b.extend([6, 64]);
            b.extend(source);
            b.extend(dest);
        }
        let at = b.len();
        b.extend(self.from.port);
        b.extend(self.to.port);
        b.extend(self.seq.to_be_bytes());
        b.extend(self.ack.to_be_bytes());
        b.extend([((20 + options.len()) as u8 / 4) << 4, self.flags]);
        b.extend(self.window.to_be_bytes());
        b.extend([0; 4]);
        b.extend(options);
        b.extend(&self.payload);
        let acc = sum(sum(sum(6 + tcp_len as u64, source), dest), &b[at..]);
        b[at + 16..at + 18].copy_from_slice(&(!fold(acc)).to_be_bytes());
        b
    }

    /// Reads a packet and checks every length and checksum of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(b: &[u8]) -> Result<Tcp, String> {
        let family = b.first().ok_or("empty")? >> 4;
        let (at, n, addr_at) = if family == 4 {
            (20, 4, 12)
        } else {
            (40, 16, 8)
        };
        let tcp = b.get(at..).filter(|t| t.len() >= 20).ok_or("short")?;
        let field = |i: usize| u16::from_be_bytes([b[i], b[i + 1]]) as usize;
        let (said, is) = if family == 4 {
            (field(2), b.len())
        } else {
            (field(4), tcp.len())
        };
        if said != 0 && said != is {
            return Err(format!("IP length {said}, not {is}"));
        }
        if family == 4 && fold(sum(0, &b[..20])) != 0xffff {
            return Err("IP checksum".into());
        }
        let acc = sum(6 + tcp.len() as u64, &b[addr_at..addr_at + 2 * n]);
        if fold(sum(acc, tcp)) != 0xffff {
            return Err("TCP checksum".into());
        }
        let end = |addr: usize, port: usize| {
            let mut e = Endpoint {
                addr: [0; 16],
                port: [tcp[port], tcp[port + 1]],
            };
            e.addr[..n].copy_from_slice(&b[addr..addr + n]);
            e
        };
        let word = |i: usize| u32::from_be_bytes([tcp[i], tcp[i + 1], tcp[i + 2], tcp[i + 3]]);
        let doff = usize::from(tcp[12] >> 4) * 4;
        let mut t = Tcp {
            family,
            from: end(addr_at, 0),
            to: end(addr_at + n, 2),
            seq: word(4),
            ack: word(8),
            flags: tcp[13],
            window: u16::from_be_bytes([tcp[14], tcp[15]]),
            payload: tcp.get(doff..).ok_or("data offset")?.to_vec(),
            ..Tcp::default()
        };
        t.read_options(&tcp[20..doff])?;
        Ok(t)
    }

    fn read_options(&mut self, o: &[u8]) -> Result<(), String> {
        let mut i = 0;
        while i < o.len() {
            if o[i] == 0 {
                break;
            }
            if o[i] == 1 {
                i += 1;
                continue;
            }
            let len = usize::from(*o.get(i + 1).ok_or("option without length")?);
            let data = o.get(i + 2..i + len).ok_or("option length")?;
            let word =
                |k: usize| u32::from_be_bytes([data[k], data[k + 1], data[k + 2], data[k + 3]]);
            match (o[i], len) {
                (2, 4) => self.mss = Some(u16::from_be_bytes([data[0], data[1]])),
                (3, 3) => self.wscale = Some(data[0]),
                (4, 2) => self.sack_ok = true,
                (8, 10) => self.ts = Some((word(0), word(4))),
                (5, n) if n > 2 && n % 8 == 2 => {
                    self.sack = (0..(n - 2) / 8)
                        .map(|k| (word(8 * k), word(8 * k + 4)))
                        .collect();
                }
                (kind, len) => return Err(format!("option {kind} of {len} bytes")),
            }
            i += len;
        }
        Ok(())
    }

    /// The packets of `mss` bytes of payload that a device makes of a super-packet.
    pub fn segments(self, mss: usize) -> Vec<Tcp> {
        if self.payload.len() <= mss {
            return vec![self];
        }
        let n = self.payload.len().div_ceil(mss);
        (0..n)
            .map(|i| {
                let part = &self.payload[i * mss..self.payload.len().min((i + 1) * mss)];
                let mut t = Tcp {
                    payload: part.to_vec(),
                    ..self.clone_head()
                };
                t.seq = self.seq.wrapping_add((i * mss) as u32);
                if i + 1 < n {
                    t.flags &= !(flags::FIN | flags::PSH);
                }
                t
            })
            .collect()
    }

    fn clone_head(&self) -> Tcp {
        Tcp {
            payload: Vec::new(),
            sack: self.sack.clone(),
            ..*self
        }
    }
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, name) in [(2, "S"), (1, "F"), (4, "R"), (8, "P"), (16, ".")] {
            if self.has(bit) {
                f.write_str(name)?;
            }
        }
        write!(
            f,
            " {}+{} ack {} win {}",
            self.seq,
            self.payload.len(),
            self.ack,
            self.window
        )?;
        if let Some((v, e)) = self.ts {
            write!(f, " ts {v} {e}")?;
        }
        for (l, r) in &self.sack {
            write!(f, " sack {l}-{r}")?;
        }
        if let Some(mss) = self.mss {
            write!(
                f,
                " mss {mss} wscale {:?} sackok {}",
                self.wscale, self.sack_ok
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for family in [4, 6] {
            let mut t = Tcp {
                family,
                seq: 7,
                ack: 9,
                flags: 0x10,
                window: 5,
                ..Tcp::default()
            };
            t.from.addr[..2].copy_from_slice(&[10, 1]);
            t.ts = Some((1, 2));
            t.sack = vec![(3, 4), (5, 6)];
            t.payload = vec![1, 2, 3];
            let mut b = t.encode();
            assert_eq!(Tcp::decode(&b).unwrap(), t);
            let last = b.len() - 1;
            b[last] ^= 1;
            assert!(Tcp::decode(&b).is_err());
        }
    }
}
