// SPDX-License-Identifier: GPL-2.0

//! The lifetime of a namespace's part in Holdfast.
//!
//! The tenant owns what must be ended in order: the hooks, which exist only while there is a
//! service; the housekeeping; and, by reference, the [`Namespace`], which all others share.

use crate::namespace::Namespace;
use crate::net::device::Watcher;
use crate::net::hook::{Family, Hooks, Place, Point, PRIORITY_AFTER_DEFRAG, PRIORITY_LAST};
use crate::net::pernet::{synchronize_net, Home, Net, PerNet, Slot};
use crate::net::rcu;
use crate::net::work::Periodic;
use crate::path::Path;
use crate::services::Services;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::{Arc, Mutex};

/// Milliseconds before the first round of housekeeping.
const FIRST_ROUND: u32 = 5_000;

static SLOT: Slot<Tenant> = Slot::new();

/// One network namespace.
#[pin_data]
pub(crate) struct Tenant {
    namespace: Arc<Namespace>,
    #[pin]
    working: Mutex<Option<Working>>,
}

/// What runs while there is a service.
struct Working {
    hooks: Hooks<Path>,
    _housekeeping: Pin<KBox<Periodic<Arc<Namespace>>>>,
}

/// Outermost towards the client on both ways.
const PLACES: [Place; 4] = [
    Place {
        family: Family::V4,
        point: Point::PreRouting,
        priority: PRIORITY_AFTER_DEFRAG,
    },
    Place {
        family: Family::V4,
        point: Point::PostRouting,
        priority: PRIORITY_LAST,
    },
    Place {
        family: Family::V6,
        point: Point::PreRouting,
        priority: PRIORITY_AFTER_DEFRAG,
    },
    Place {
        family: Family::V6,
        point: Point::PostRouting,
        priority: PRIORITY_LAST,
    },
];

impl Tenant {
    /// What all share.
    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Replaces the table of services by what `change` makes of it, and sees to it that hooks
    /// exist if and only if there are services. Sleeps.
    pub(crate) fn change_services(
        &self,
        net: &Net,
        change: impl FnOnce(&Services) -> Result<Services>,
    ) -> Result {
        let mut working = self.working.lock();
        let services = self.namespace.with_services(change)?;
        let (wanted, before) = (services.len() > 0, working.is_some());
        if wanted && !before {
            let path = Arc::new(Path::new(self.namespace.clone()), GFP_KERNEL)?;
            // The hooks last: they cannot be dropped as they are, housekeeping can.
            let housekeeping = Periodic::start(self.namespace.clone(), FIRST_ROUND)?;
            *working = Some(Working {
                hooks: Hooks::register(net, path, &PLACES)?,
                _housekeeping: housekeeping,
            });
        }
        let published = self.namespace.publish_services(services);
        // If not, the services are those from before.
        let wanted = if published.is_ok() { wanted } else { before };
        if !wanted {
            self.idle(net, working.take());
        }
        published
    }

    fn idle(&self, net: &Net, working: Option<Working>) {
        let Some(mut working) = working else { return };
        working.hooks.unregister(net);
        // Packets that are in our hooks may still make flows.
        synchronize_net();
        drop(working);
        self.namespace.forget_flows();
    }
}

impl PerNet for Tenant {
    fn slot() -> &'static Slot<Self> {
        &SLOT
    }

    fn init(_net: &Net, home: Home) -> Result<Arc<Self>> {
        let namespace = Namespace::new(home)?;
        Arc::pin_init(
            pin_init!(Self { namespace, working <- new_mutex!(None) }),
            GFP_KERNEL,
        )
    }

    fn pre_exit(&self, net: &Net) {
        let working = self.working.lock().take();
        self.idle(net, working);
        // An entry keeps the namespace's state, whose end sleeps: it must not be the last.
        rcu::barrier();
    }
}

/// Lets go of held packets when the device that they pin goes.
pub(crate) struct Devices;

impl Watcher for Devices {
    fn device_gone(&self, net: &Net, ifindex: u32) {
        if let Some(tenant) = SLOT.get(net) {
            tenant.namespace.let_go_of(ifindex);
        }
    }
}
