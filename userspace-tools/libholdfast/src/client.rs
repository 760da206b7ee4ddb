// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The operations of the family, one method each.
//!
//! A [`Client`] acts on the network namespace that its thread was in when it connected, and
//! needs `CAP_NET_ADMIN` there. Requests are short: the kernel answers before `send()`
//! returns, so that they may be made from an event loop.

use std::net::SocketAddr;

use crate::attr::{need, Attrs, Writer};
use crate::error::Result;
use crate::netlink::{Genl, Replies};
use crate::types::{
    put_key, put_service, FlowInfo, FlowKey, Join, Locate, Recover, Release, ServiceConfig,
    ServiceInfo, Splice, Stat, Verdict,
};
use crate::uapi_gen as nl;

/// Most bytes of a message with releases, so that it passes the usual send buffer and the
/// 16-bit length of the array that they are in.
const BATCH: usize = 32 * 1024;

/// More bytes than one release takes.
const RELEASE: usize = 128;

/// All objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Nothing changed while the kernel wrote them: none is missing or there twice.
    pub consistent: bool,
}

/// A connection to the module.
pub struct Client {
    genl: Genl,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`NotLoaded`](crate::Error::NotLoaded), or what socket(2) says.
    pub fn connect() -> Result<Self> {
        Ok(Client {
            genl: Genl::connect()?.0,
        })
    }

    /// Protects a service, or changes the policy of one that is. The service as it is now.
    pub fn service_add(&mut self, config: &ServiceConfig) -> Result<ServiceInfo> {
        one(
            self.genl.ask(nl::CMD_SERVICE_ADD, |w| config.put(w))?,
            ServiceInfo::read,
        )
    }

    /// Stops protecting a service. `EBUSY` while a flow would break.
    pub fn service_del(&mut self, service: SocketAddr) -> Result<()> {
        self.genl
            .ask(nl::CMD_SERVICE_DEL, |w| put_service(w, service))
            .map(drop)
    }

    /// One service.
    pub fn service_get(&mut self, service: SocketAddr) -> Result<ServiceInfo> {
        let replies = self
            .genl
            .ask(nl::CMD_SERVICE_GET, |w| put_service(w, service))?;
        one(replies, ServiceInfo::read)
    }

    /// All services.
    pub fn services(&mut self) -> Result<Dump<ServiceInfo>> {
        all(&self.genl.dump(nl::CMD_SERVICE_GET)?, ServiceInfo::read)
    }

    /// One flow.
    pub fn flow_get(&mut self, key: &FlowKey) -> Result<FlowInfo> {
        key.check()?;
        one(
            self.genl.ask(nl::CMD_FLOW_GET, |w| put_key(w, key))?,
            FlowInfo::read,
        )
    }

    /// All flows. Where connections come and go, it is rarely [consistent](Dump::consistent).
    pub fn flows(&mut self) -> Result<Dump<FlowInfo>> {
        all(&self.genl.dump(nl::CMD_FLOW_GET)?, FlowInfo::read)
    }

    /// The first `most` flows in the order of the kernel's table, and no more work than that.
    /// It is the same order each time, unless the table grows or shrinks. The connection ends
    /// with it, and with that the rest of the kernel's answer.
    pub fn some_flows(mut self, most: usize) -> Result<Dump<FlowInfo>> {
        all(
            &self.genl.dump_some(nl::CMD_FLOW_GET, most)?,
            FlowInfo::read,
        )
    }

    /// Says of each release that its record is safe. Flows that are gone are skipped. Takes
    /// as many messages as it needs; the first error is told after the last message.
    pub fn flow_commit(&mut self, releases: &[Release]) -> Result<()> {
        let mut result = Ok(());
        for batch in releases.chunks(BATCH / RELEASE) {
            let sent = commit(batch).and_then(|w| self.genl.tell(nl::CMD_FLOW_COMMIT, w));
            result = result.and(sent);
        }
        result
    }

    /// Takes a flow over and makes its client say where it stands.
    pub fn flow_locate(&mut self, locate: &Locate) -> Result<FlowInfo> {
        locate.claim.key.check()?;
        one(
            self.genl.ask(nl::CMD_FLOW_LOCATE, |w| locate.put(w))?,
            FlowInfo::read,
        )
    }

    /// Opens a connection to the local server in the client's name.
    pub fn flow_recover(&mut self, recover: &Recover<'_>) -> Result<FlowInfo> {
        recover.claim.key.check()?;
        one(
            self.genl.ask(nl::CMD_FLOW_RECOVER, |w| recover.put(w))?,
            FlowInfo::read,
        )
    }

    /// Joins the client to the server's answer.
    ///
    /// # Errors
    ///
    /// One that [is again](crate::Error::is_again) if more of the answer has come: read the log and
    /// ask again.
    pub fn flow_join(&mut self, join: &Join<'_>) -> Result<()> {
        join.key.check()?;
        self.genl.ask(nl::CMD_FLOW_JOIN, |w| join.put(w)).map(drop)
    }

    /// Gives a flow up. `id`: only if it is that one; the client may have used its port again.
    pub fn flow_end(&mut self, id: Option<u64>, key: &FlowKey, verdict: Verdict) -> Result<()> {
        key.check()?;
        let fill = |w: &mut Writer| {
            if let Some(id) = id {
                w.u64(nl::A_FLOW_ID, id);
            }
            put_key(w, key);
            w.u32(nl::A_FLOW_VERDICT, verdict as u32);
        };
        self.genl.ask(nl::CMD_FLOW_END, fill).map(drop)
    }

    /// Translates a flow that is to come.
    pub fn splice_add(&mut self, splice: &Splice) -> Result<FlowInfo> {
        splice.key.check()?;
        one(
            self.genl.ask(nl::CMD_SPLICE_ADD, |w| splice.put(w))?,
            FlowInfo::read,
        )
    }

    /// Forgets a flow made by [`Self::splice_add`].
    pub fn splice_del(&mut self, key: &FlowKey) -> Result<()> {
        key.check()?;
        self.genl
            .ask(nl::CMD_SPLICE_DEL, |w| put_key(w, key))
            .map(drop)
    }

    /// All counters of the namespace.
    pub fn stats(&mut self) -> Result<Vec<Stat>> {
        Ok(all(&self.genl.dump(nl::CMD_STATS_GET)?, Stat::read)?.items)
    }
}

fn commit(batch: &[Release]) -> Result<Writer> {
    let mut w = Writer::new(nl::CMD_FLOW_COMMIT, nl::FAMILY_VERSION);
    for release in batch {
        release.key.check()?;
    }
    w.nest(nl::A_BATCH_RELEASE, |w| {
        for (i, release) in (0..).zip(batch) {
            w.nest(i, |w| release.put(w));
        }
    });
    Ok(w)
}

fn one<T>(replies: Replies, read: fn(&Attrs<'_>) -> Result<T>) -> Result<T> {
    let reply = need(replies.messages.into_iter().next(), "the reply")?;
    read(&Attrs::of_message(&reply)?)
}

fn all<T>(replies: &Replies, read: fn(&Attrs<'_>) -> Result<T>) -> Result<Dump<T>> {
    let items = replies
        .messages
        .iter()
        .map(|reply| read(&Attrs::of_message(reply)?));
    let items = items.collect::<Result<_>>()?;
    Ok(Dump {
        items,
        consistent: replies.consistent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::HEADERS;
    use crate::error::Error;

    fn release(port: u16) -> Release {
        Release {
            id: Some(port.into()),
            key: FlowKey {
                client: SocketAddr::new("2001:db8::7".parse().unwrap(), port),
                service: "[2001:db8::1]:80".parse().unwrap(),
            },
            object_start: Some(1),
            object_end: Some(2),
            unprotected: true,
            broken_off: false,
            ack_release: true,
        }
    }

    #[test]
    fn a_full_batch_fits_in_a_message() {
        let releases: Vec<_> = (0..1000).map(release).collect();
        let mut count = 0;
        for batch in releases.chunks(BATCH / RELEASE) {
            let bytes = commit(batch)
                .unwrap()
                .finish("flow-commit", 30, 5, 1)
                .unwrap();
            assert!(bytes.len() <= BATCH);
            let attrs = Attrs::parse(&bytes[HEADERS..]).unwrap();
            let array = attrs.nest(nl::A_BATCH_RELEASE).unwrap().unwrap();
            for (_, entry) in array.iter() {
                let entry = Attrs::parse(entry).unwrap();
                assert_eq!(entry.u64(nl::A_RELEASE_ID).unwrap(), Some(count));
                assert!(entry.flag(nl::A_RELEASE_UNPROTECTED));
                assert_eq!(entry.u64(nl::A_RELEASE_OBJECT_END).unwrap(), Some(2));
                count += 1;
            }
        }
        assert_eq!(count, 1000);
    }

    #[test]
    fn mixed_families_are_refused_before_the_kernel_sees_them() {
        let mut mixed = release(1);
        mixed.key.client = "192.0.2.7:1".parse().unwrap();
        assert!(matches!(
            commit(&[release(2), mixed]),
            Err(Error::MixedFamilies)
        ));
    }
}
