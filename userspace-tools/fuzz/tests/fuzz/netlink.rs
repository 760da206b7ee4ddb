// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What the kernel says over netlink: replies, notifications, refusals that explain themselves.

use holdfast_fuzz::{noise, run, spoiled};
use libholdfast::fuzz::answer;
use libholdfast::uapi_gen as nl;

const SEQUENCE: u32 = 3;

/// Of netlink itself (include/uapi/linux/netlink.h).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

/// The number of the family.
const FAMILY: u16 = 30;

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = 4 + value.len() as u16;
    padded([&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat())
}

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = (16 + payload.len() as u32).to_ne_bytes().to_vec();
    for half in [kind, flags] {
        out.extend(half.to_ne_bytes());
    }
    for word in [SEQUENCE, 0] {
        out.extend(word.to_ne_bytes());
    }
    padded([&out[..], payload].concat())
}

/// A message of the family.
fn told(command: u8, attrs: &[Vec<u8>]) -> Vec<u8> {
    message(
        FAMILY,
        0,
        &[&[command, 1, 0, 0][..], &attrs.concat()].concat(),
    )
}

/// Three releases: attributes in an array of attributes.
fn request() -> Vec<u8> {
    let one = |i: u16| attr(i, &attr(nl::A_RELEASE_ID, &u64::from(i).to_ne_bytes()));
    let releases = [one(0), one(1), one(2)].concat();
    told(nl::CMD_FLOW_COMMIT, &[attr(nl::A_BATCH_RELEASE, &releases)])
}

fn number(kind: u16) -> Vec<u8> {
    attr(kind, &1u32.to_ne_bytes())
}

/// What an honest kernel says: a flow, a service, a counter, the family, a refusal, an end.
fn honest() -> Vec<Vec<u8>> {
    let port = 80u16.to_be_bytes();
    let flow = [
        attr(nl::A_FLOW_ID, &1u64.to_ne_bytes()),
        attr(nl::A_FLOW_CLIENT_ADDR, &[192, 0, 2, 7]),
        attr(nl::A_FLOW_CLIENT_PORT, &port),
        attr(nl::A_FLOW_SERVICE_ADDR, &[192, 0, 2, 1]),
        attr(nl::A_FLOW_SERVICE_PORT, &port),
        number(nl::A_FLOW_PHASE),
        attr(nl::A_FLOW_C2S_NEXT, &(1u64 << 40).to_ne_bytes()),
        attr(
            nl::A_FLOW_OPTIONS,
            &attr(nl::A_OPTIONS_MSS, &1460u16.to_ne_bytes()),
        ),
    ];
    let service = [
        attr(nl::A_SERVICE_ADDR, &[0x20; 16]),
        attr(nl::A_SERVICE_PORT, &port),
        number(nl::A_SERVICE_MODE),
        number(nl::A_SERVICE_COMMIT),
        number(nl::A_SERVICE_HOLD_MS),
        number(nl::A_SERVICE_VERDICT_MS),
        number(nl::A_SERVICE_HEAD_LIMIT),
        number(nl::A_SERVICE_REQUEST_LIMIT),
        number(nl::A_SERVICE_FLOWS),
    ];
    let stat = [
        attr(nl::A_STAT_NAME, b"held\0"),
        attr(nl::A_STAT_VALUE, &7u64.to_ne_bytes()),
    ];
    // CTRL_ATTR_FAMILY_ID, and in CTRL_ATTR_MCAST_GROUPS a name and a number.
    let group = [attr(1, b"events\0"), attr(2, &9u32.to_ne_bytes())].concat();
    let family = [attr(1, &FAMILY.to_ne_bytes()), attr(7, &attr(1, &group))];
    // NLMSGERR_ATTR_MSG, _OFFS, _MISS_TYPE and _MISS_NEST, behind the header of the request.
    let why = [
        attr(1, b"it is wrong\0"),
        attr(2, &28u32.to_ne_bytes()),
        attr(5, &1u32.to_ne_bytes()),
        attr(6, &24u32.to_ne_bytes()),
    ];
    let code = (-22i32).to_ne_bytes();
    let refusal = [&code[..], &request()[..16], &why.concat()].concat();
    vec![
        told(nl::CMD_FLOW_NTF, &flow),
        told(nl::CMD_SERVICE_NTF, &service),
        told(nl::CMD_STATS_GET, &stat),
        told(1, &family),
        message(NLMSG_ERROR, NLM_F_ACK_TLVS | NLM_F_CAPPED, &refusal),
        message(NLMSG_DONE, 0, &[0; 4]),
    ]
}

#[test]
fn what_is_honest_is_understood() {
    let all = honest();
    let said: Vec<_> = all[..4].iter().map(Vec::as_slice).collect();
    let read = answer(&request(), SEQUENCE, &said);
    assert_eq!((read.messages, read.understood), (4, 4));
    assert!(!read.done);
    let refusal = answer(&request(), SEQUENCE, &[&all[4]]).refusal.unwrap();
    assert_eq!(refusal.errno, 22);
    assert_eq!(refusal.message.as_deref(), Some("it is wrong"));
    assert_eq!(refusal.attribute.as_deref(), Some("release[0].id"));
    assert_eq!(refusal.missing.as_deref(), Some("release[0].id"));
    assert!(answer(&request(), SEQUENCE, &[&all[5]]).done);
}

/// An answer that somebody spoiled is read, refused, or no answer; never more of it than there is.
#[test]
fn answers() {
    let (all, request) = (honest(), request());
    let seeds: Vec<_> = all.iter().map(Vec::as_slice).collect();
    run("netlink answers", |rng| {
        let datagrams: Vec<_> = (0..1 + rng.below(4))
            .map(|_| spoiled(rng, &seeds))
            .collect();
        // What the kernel says of a request is about any part of it, also of one that it made up.
        let asked = match rng.below(4) {
            0 => spoiled(rng, &[&request]),
            1 => noise(rng, 60),
            _ => request.clone(),
        };
        let said: Vec<_> = datagrams.iter().map(Vec::as_slice).collect();
        let read = answer(&asked, SEQUENCE, &said);
        let bytes: usize = said.iter().map(|d| d.len()).sum();
        assert!(read.messages <= bytes / 16 && read.understood <= read.messages);
        if let Some(refusal) = read.refusal {
            assert!(refusal.errno != 0 && read.done);
            // As it is shown to people.
            assert!(!refusal.to_string().is_empty());
        }
    });
}
