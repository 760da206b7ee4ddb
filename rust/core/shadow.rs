// SPDX-License-Identifier: GPL-2.0

//! What the gates would do to a flow that is only observed.
//!
//! The positions are those that an [`AckGate`](super::gate::AckGate) and a
//! [`DataGate`](super::gate::DataGate) would have; nothing is held by them, so that what is
//! counted is how often Holdfast would have touched a packet, not what would have followed.

use super::seq::{C2s, Pos, S2c};

/// The gates as they would stand. Client space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shadow {
    ack: Option<Pos<C2s>>,
    data: Option<Pos<S2c>>,
}

impl Shadow {
    /// A request begins at `request`; its response must wait from `start` on, if it must wait.
    pub(super) fn close(&mut self, request: Pos<C2s>, start: Option<Pos<S2c>>) {
        self.ack = Some(request);
        self.data = start;
    }

    /// The record of the response is safe; the next one must wait from `end` on.
    pub(super) fn commit(&mut self, end: Option<Pos<S2c>>) {
        self.data = end;
    }

    /// Acknowledgements would pass again. Says whether they would not before.
    pub(super) fn open_ack(&mut self) -> bool {
        self.ack.take().is_some()
    }

    /// Whether acknowledgements would be lowered to some position.
    pub(super) fn gates_acks(&self) -> bool {
        self.ack.is_some()
    }

    /// Whether a segment of the service whose last byte is before `end` would wait.
    pub(super) fn holds(&self, end: Pos<S2c>) -> bool {
        self.data.is_some_and(|gate| end > gate)
    }

    /// Whether some segments would wait.
    pub(super) fn holds_some(&self) -> bool {
        self.data.is_some()
    }

    /// Whether an acknowledgement of everything before `ack` would be lowered.
    pub(super) fn lowers(&self, ack: Pos<C2s>) -> bool {
        self.ack.is_some_and(|gate| ack > gate)
    }
}
