// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Requests as bytes, and replies from bytes, as the specification says.

use holdfast_core::ring::Desc;

use super::*;
use crate::attr::HEADERS;
use crate::uapi_gen as nl;

fn v4() -> FlowKey {
    FlowKey {
        client: "192.0.2.7:40000".parse().unwrap(),
        service: "198.51.100.1:80".parse().unwrap(),
    }
}

fn v6() -> FlowKey {
    FlowKey {
        client: "[2001:db8::7]:40000".parse().unwrap(),
        service: "[2001:db8::1]:80".parse().unwrap(),
    }
}

fn attrs(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new(0, 0);
    fill(&mut w);
    w.finish("test", 0, 0, 0).unwrap()[HEADERS..].to_vec()
}

#[test]
fn a_key_has_the_bytes_of_the_module() {
    let bytes = v4().to_bytes().unwrap();
    assert_eq!(bytes[..5], [192, 0, 2, 7, 0]);
    assert_eq!(bytes[16..21], [198, 51, 100, 1, 0]);
    assert_eq!(bytes[32..], [0x9c, 0x40, 0, 80, 4, 0, 0, 0]);
    for key in [v4(), v6()] {
        assert_eq!(FlowKey::from_bytes(&key.to_bytes().unwrap()), Some(key));
    }
    let mixed = FlowKey {
        client: v4().client,
        service: v6().service,
    };
    assert!(mixed.to_bytes().is_none() && mixed.check().is_err());
    assert!(FlowKey::from_bytes(&[0; 40]).is_none());
}

#[test]
fn a_description_is_read() {
    let desc = Desc {
        key: v6().to_bytes().unwrap(),
        isn_c2s: 1,
        isn_s2c: 2,
        generation: 3,
        mss: 1440,
        wscale_client: 7,
        wscale_service: 255,
        options: 3,
        reserved: [0; 6],
    };
    let read = FlowDesc::from_data(&desc.to_bytes()).unwrap();
    assert_eq!((read.key, read.generation), (v6(), 3));
    assert_eq!(read.options.mss, Some(1440));
    assert_eq!(
        (read.options.wscale_client, read.options.wscale_service),
        (Some(7), None)
    );
    assert!(read.options.sack && read.options.timestamps);
    assert!(FlowDesc::from_data(&desc.to_bytes()[..63]).is_none());
}

#[test]
fn a_claim_is_written_as_the_specification_says() {
    let options = TcpOptions {
        mss: Some(1460),
        wscale_client: Some(7),
        wscale_service: Some(8),
        sack: true,
        timestamps: true,
    };
    let clock = Some(ClientClock {
        tsval: 10,
        tsecr: 11,
        age_ms: 12,
    });
    let claim = Claim {
        key: v4(),
        generation: 5,
        c2s_next: 1 << 40,
        options,
        clock,
    };
    let recover = Recover {
        claim,
        at: 1 << 33,
        request: b"GET",
        answer_window: Some(9),
        local_port: Some(0x1234),
    };
    let bytes = attrs(|w| recover.put(w));
    let a = Attrs::parse(&bytes).unwrap();
    let key = (a
        .socket(nl::A_FLOW_CLIENT_ADDR, nl::A_FLOW_CLIENT_PORT)
        .unwrap())
    .unwrap();
    assert_eq!(key, v4().client);
    assert_eq!(a.u32(nl::A_FLOW_GENERATION).unwrap(), Some(5));
    assert_eq!(a.u64(nl::A_FLOW_C2S_NEXT).unwrap(), Some(1 << 40));
    assert_eq!(a.u64(nl::A_FLOW_AT).unwrap(), Some(1 << 33));
    assert_eq!(a.bytes(nl::A_FLOW_REQUEST), Some(&b"GET"[..]));
    assert_eq!(a.u32(nl::A_FLOW_ANSWER_WINDOW).unwrap(), Some(9));
    assert_eq!(a.u32(nl::A_FLOW_TS_AGE).unwrap(), Some(12));
    assert_eq!(a.bytes(nl::A_FLOW_LOCAL_PORT), Some(&[0x12, 0x34][..]));
    let nested = a.nest(nl::A_FLOW_OPTIONS).unwrap().unwrap();
    assert_eq!(TcpOptions::read(&nested).unwrap(), options);

    let bare = Claim {
        clock: None,
        options: TcpOptions::default(),
        ..claim
    };
    let bytes = attrs(|w| {
        Locate {
            claim: bare,
            probe_seq: 4,
            anywhere: true,
        }
        .put(w)
    });
    let a = Attrs::parse(&bytes).unwrap();
    assert_eq!(a.u32(nl::A_FLOW_TSVAL).unwrap(), None);
    assert_eq!(a.u32(nl::A_FLOW_PROBE_SEQ).unwrap(), Some(4));
    assert!(a.flag(nl::A_FLOW_ANYWHERE));
    let nested = a.nest(nl::A_FLOW_OPTIONS).unwrap().unwrap();
    assert_eq!(nested.u16(nl::A_OPTIONS_MSS).unwrap(), Some(0));
    assert!(!nested.flag(nl::A_OPTIONS_SACK));
}

#[test]
fn a_flow_is_read() {
    let bytes = attrs(|w| {
        w.u64(nl::A_FLOW_ID, 77);
        v6().put(w);
        w.u32(nl::A_FLOW_PHASE, Phase::Open as u32);
        w.u64(nl::A_FLOW_OBJECT_START, 0);
        w.u32(nl::A_FLOW_DELTA_S2C, 5);
        w.u32(nl::A_FLOW_EVENT, Event::Spliced as u32);
    });
    let flow = FlowInfo::read(&Attrs::parse(&bytes).unwrap()).unwrap();
    assert_eq!((flow.id, flow.key, flow.phase), (77, v6(), Phase::Open));
    assert_eq!((flow.object_start, flow.object_end), (Some(0), None));
    assert_eq!(flow.event, Some(Event::Spliced));
    assert!(flow.is_translated());

    let bytes = attrs(|w| {
        w.u64(nl::A_FLOW_ID, 77);
        v4().put(w);
        w.u32(nl::A_FLOW_PHASE, 99);
    });
    assert!(FlowInfo::read(&Attrs::parse(&bytes).unwrap()).is_err());
}

#[test]
fn a_service_is_read() {
    let mut config = ServiceConfig::new(v4().service);
    config.mode = Some(Mode::Protect);
    config.commit = Some(Commit::Strict);
    config.hold_ms = Some(1);
    config.verdict_ms = Some(2);
    config.head_limit = Some(3);
    config.request_limit = Some(4);
    config.excerpt = Some(Excerpt {
        head_end: *b"\r\n\r\n",
        body_whole: 6,
        body_part: 7,
    });
    let bytes = attrs(|w| {
        config.put(w);
        w.u32(nl::A_SERVICE_FLOWS, 5);
    });
    let info = ServiceInfo::read(&Attrs::parse(&bytes).unwrap()).unwrap();
    assert_eq!(
        (info.service, info.mode, info.commit),
        (v4().service, Mode::Protect, Commit::Strict)
    );
    let numbers = (
        info.hold_ms,
        info.verdict_ms,
        info.head_limit,
        info.request_limit,
    );
    assert_eq!((numbers, info.flows), ((1, 2, 3, 4), 5));
    let excerpt = Attrs::parse(&bytes).unwrap();
    let number = |kind| excerpt.u32(kind).unwrap();
    assert_eq!(number(nl::A_SERVICE_HEAD_END), Some(0x0d0a_0d0a));
    assert_eq!(number(nl::A_SERVICE_BODY_WHOLE), Some(6));
    assert_eq!(number(nl::A_SERVICE_BODY_PART), Some(7));
}

#[test]
fn enums_have_names_and_numbers() {
    assert_eq!(Phase::from_raw(8), Some(Phase::Passing));
    assert_eq!(Phase::from_raw(9), None);
    assert_eq!(Verdict::Abandon.to_string(), "abandon");
    for (i, phase) in Phase::ALL.into_iter().enumerate() {
        assert_eq!(phase as usize, i);
    }
}
