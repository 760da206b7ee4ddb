// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What the configurations of all nodes should say alike of a service.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use crate::config::{Commit, Mode, MovedBy, Service};

/// What a node was told of a service, as far as it decides what becomes of connections when
/// another node takes them over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Terms {
    /// Address and port.
    pub service: SocketAddr,
    /// See [`Service::mode`], and so on.
    pub mode: Mode,
    pub commit: Commit,
    pub deterministic: bool,
    pub moved_by: MovedBy,
}

impl Terms {
    /// Of a service of this node.
    pub fn of(service: &Service) -> Self {
        Terms {
            service: service.socket(),
            mode: service.mode,
            commit: service.commit,
            deterministic: service.deterministic,
            moved_by: service.moved_by,
        }
    }

    /// The keys that have other values in `theirs`, with those and ours, as a configuration has
    /// them.
    pub fn differences(&self, theirs: &Terms) -> Vec<(String, [Value; 2])> {
        let (ours, mut theirs) = (json!(self), json!(theirs));
        let keys = ours.as_object().into_iter().flatten();
        let both = keys.map(|(key, ours)| (key.clone(), [theirs[key].take(), ours.clone()]));
        both.filter(|(_, [theirs, ours])| theirs != ours).collect()
    }
}
