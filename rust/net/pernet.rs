// SPDX-License-Identifier: GPL-2.0

//! Network namespaces, and state of our own in each of them.
//!
//! The life of a [`PerNet`]:
//!
//! 1. `init`, when a namespace is made, or for each that exists when we register;
//! 2. `pre_exit`, when it dies or we unregister: no packet comes from outside any more, those
//!    under way still use the state. Hooks are unregistered and held packets freed here;
//! 3. a grace period, in which the last [`Slot::get`] under way ends;
//! 4. `exit`: our reference to the state is dropped. Whoever took one by [`Slot::get`] may keep
//!    it a little longer.

use super::bindings;
use core::{cell::UnsafeCell, marker::PhantomData, mem::MaybeUninit, ptr::NonNull};
use kernel::{
    error::from_result,
    ffi::{c_int, c_uint, c_void},
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        rcu, Arc, ArcBorrow,
    },
    types::Opaque,
};

/// A network namespace.
///
/// # Invariants
///
/// A reference means that its state has not been released yet: the namespace is referenced, or
/// we are in one of its hooks, or netfilter, pernet or device callbacks.
#[repr(transparent)]
pub(crate) struct Net(Opaque<bindings::net>);

// SAFETY: `struct net` is made for use by all CPUs, and all methods are.
unsafe impl Sync for Net {}

impl Net {
    /// # Safety
    ///
    /// `net` must be valid and satisfy the invariants of the type for `'a`.
    pub(super) unsafe fn from_raw<'a>(net: *mut bindings::net) -> &'a Self {
        // SAFETY: By the requirements of this function; `Net` is transparent.
        unsafe { &*net.cast() }
    }

    /// The C structure.
    pub(super) fn as_ptr(&self) -> *mut bindings::net {
        self.0.get()
    }

    /// The namespace in which the machine booted.
    pub(crate) fn init() -> &'static Self {
        // SAFETY: `init_net` is never released.
        unsafe { Self::from_raw(bindings::hf_init_net()) }
    }

    /// A number that no other namespace has had since boot (`SO_NETNS_COOKIE`).
    pub(crate) fn cookie(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_net_cookie(self.as_ptr()) }
    }

    /// Inode number of the namespace, as `ls -L /proc/PID/ns/net` shows it.
    pub(crate) fn inum(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_net_inum(self.as_ptr()) }
    }

    /// Keeps the namespace from dying. Not for long: a user who deletes it expects that it goes.
    /// `None` if it is dying already.
    pub(crate) fn get(&self) -> Option<NetRef> {
        // SAFETY: By the type invariant.
        NonNull::new(unsafe { bindings::hf_maybe_get_net(self.as_ptr()) }).map(NetRef)
    }
}

impl PartialEq for Net {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

/// A counted reference to a namespace. May be dropped in any context.
///
/// # Invariants
///
/// The namespace is valid, and one count is ours.
pub(crate) struct NetRef(NonNull<bindings::net>);

// SAFETY: Namespaces are counted atomically, and are bound to no thread.
unsafe impl Send for NetRef {}
// SAFETY: `&NetRef` gives `&Net` only, which is `Sync`.
unsafe impl Sync for NetRef {}

impl core::ops::Deref for NetRef {
    type Target = Net;

    fn deref(&self) -> &Net {
        // SAFETY: By the type invariant; a referenced namespace is not released.
        unsafe { Net::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for NetRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hf_put_net(self.0.as_ptr()) };
    }
}

/// State in each namespace.
pub(crate) trait PerNet: Send + Sync + Sized + 'static {
    /// Where it is found.
    fn slot() -> &'static Slot<Self>;

    /// Makes the state of a namespace. May sleep.
    ///
    /// # Errors
    ///
    /// Any: the namespace (or the module's start) fails by it.
    fn init(net: &Net, home: Home) -> Result<Arc<Self>>;

    /// The namespace is going, or we are. May sleep. [`Slot::get`] finds nothing once this has
    /// returned.
    fn pre_exit(&self, net: &Net);
}

/// The way from state to the namespace that it belongs to, for timers and files, which have no
/// packet or request that keeps it.
///
/// # Invariants
///
/// The pointer is null, or the namespace lives at least until a grace period from now on: only
/// `init_callback` makes a home, and `pre_exit_callback` clears it, a grace period before the
/// core may free the namespace.
#[derive(Clone)]
pub(crate) struct Home(Arc<Atomic<*mut bindings::net>>);

impl Home {
    /// Calls `f` with the namespace, in an RCU read section: `f` must not sleep. Any context.
    /// `None` if the namespace, or the module, is going.
    pub(crate) fn enter<R>(&self, f: impl FnOnce(&Net) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        let net = self.0.load(Acquire);
        // SAFETY: By the type invariant, and the guard holds off the grace period.
        (!net.is_null()).then(|| f(unsafe { Net::from_raw(net) }))
    }
}

/// A static in which the number of a [`PerNet`] is kept.
pub(crate) struct Slot<T> {
    ops: UnsafeCell<MaybeUninit<bindings::pernet_operations>>,
    id: UnsafeCell<c_uint>,
    /// 0: not in use, 1: being registered or ended, 2: in use.
    state: Atomic<u32>,
    _state: PhantomData<T>,
}

// SAFETY: The cells are written only by who has moved `state` from 0 to 1, and by the C side
// before `state` becomes 2; `T` itself is reached by `Arc`.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

impl<T: PerNet> Slot<T> {
    /// A slot that is not in use.
    #[allow(clippy::new_without_default)]
    pub(crate) const fn new() -> Self {
        Self {
            ops: UnsafeCell::new(MaybeUninit::uninit()),
            id: UnsafeCell::new(0),
            state: Atomic::new(0),
            _state: PhantomData,
        }
    }

    /// Makes the state in all namespaces, and in all to come. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is registered; else what [`PerNet::init`] returned, and `ENOMEM`.
    pub(crate) fn register(&'static self) -> Result<Registration<T>> {
        if self.state.cmpxchg(0, 1, Relaxed).is_err() {
            return Err(EBUSY);
        }
        // SAFETY: Having moved `state` from 0, we alone may write; nobody reads before 2.
        let ops = unsafe { &mut *self.ops.get() };
        let ops = ops.write(bindings::pernet_operations {
            init: Some(init_callback::<T>),
            pre_exit: Some(pre_exit_callback::<T>),
            exit: Some(exit_callback::<T>),
            id: self.id.get(),
            size: core::mem::size_of::<Cell>(),
            ..Default::default()
        });
        // SAFETY: `ops` and `id` are static, and stay as they are until we unregister.
        let err = unsafe { bindings::register_pernet_subsys(ops) };
        if err != 0 {
            self.state.store(0, Release);
            return Err(Error::from_errno(err));
        }
        self.state.store(2, Release);
        Ok(Registration(self))
    }

    /// The state of a namespace. Any context. `None` before `init` and after `pre_exit`.
    pub(crate) fn get(&self, net: &Net) -> Option<Arc<T>> {
        let _guard = rcu::read_lock();
        if self.state.load(Acquire) != 2 {
            return None;
        }
        // SAFETY: The slot is in use, and the invariants of `Net` say that its state, in which
        // `cell` is, has not been released; nor can it be by our unregistering before this RCU
        // section ends, since we have seen 2, which is taken back before.
        let state = unsafe { self.cell(net).live.load(Acquire) }.cast::<T>();
        if state.is_null() {
            return None;
        }
        // SAFETY: The pointer is from `Arc::into_raw`, and that reference is dropped a grace
        // period after the pointer was cleared.
        Some(unsafe { ArcBorrow::from_raw(state) }.into())
    }

    /// # Safety
    ///
    /// The number must be valid, and the namespace's generic state be there for `'a`.
    unsafe fn cell<'a>(&self, net: &Net) -> &'a Cell {
        // SAFETY: By the requirements of this function. What netns gives us there is memory of
        // the size that we asked for, zeroed, hence a valid `Cell`.
        unsafe { &*bindings::hf_net_generic(net.as_ptr(), *self.id.get()).cast() }
    }
}

/// What netns keeps for us in each namespace: `Arc::into_raw`, or null.
struct Cell {
    /// What [`Slot::get`] finds. Cleared by `pre_exit`.
    live: Atomic<*const c_void>,
    /// The reference that `exit` drops.
    owned: Atomic<*const c_void>,
    /// The [`Home`] of the state, whose reference `exit` drops too.
    home: Atomic<*const c_void>,
}

/// State in all namespaces; dropping it ends them all. May sleep.
pub(crate) struct Registration<T: PerNet>(&'static Slot<T>);

impl<T: PerNet> Drop for Registration<T> {
    fn drop(&mut self) {
        // From here on nobody newly reads a cell; those who do already are waited for before any
        // cell is freed.
        self.0.state.store(1, Release);
        // SAFETY: It is registered, hence written.
        unsafe { bindings::unregister_pernet_subsys(self.0.ops.get().cast()) };
        self.0.state.store(0, Release);
    }
}

/// # Safety
///
/// Only for the pernet core.
unsafe extern "C" fn init_callback<T: PerNet>(net: *mut bindings::net) -> c_int {
    // SAFETY: The core calls with a namespace whose generic state it has made.
    let (net, cell) = unsafe {
        let net = Net::from_raw(net);
        (net, T::slot().cell(net))
    };
    from_result(|| {
        // INVARIANT: The namespace is being made.
        let home = Home(Arc::new(Atomic::new(net.as_ptr()), GFP_KERNEL)?);
        let state = T::init(net, home.clone()).inspect_err(|_| {
            // INVARIANT: Whoever kept a copy of it must not use it: `pre_exit` will not come.
            home.0.store(core::ptr::null_mut(), Release);
        })?;
        let state = Arc::into_raw(state).cast();
        cell.home.store(Arc::into_raw(home.0).cast(), Relaxed);
        cell.owned.store(state, Relaxed);
        cell.live.store(state, Release);
        Ok(0)
    })
}

/// # Safety
///
/// Only for the pernet core.
unsafe extern "C" fn pre_exit_callback<T: PerNet>(net: *mut bindings::net) {
    // SAFETY: The core calls with a namespace in which `init` has succeeded.
    let (net, cell) = unsafe {
        let net = Net::from_raw(net);
        (net, T::slot().cell(net))
    };
    // SAFETY: `init` has stored the pointer, and its reference is ours until `exit`.
    let state = unsafe { &*cell.owned.load(Relaxed).cast::<T>() };
    state.pre_exit(net);
    // SAFETY: `init` has stored the pointer, and its reference is ours until `exit`.
    let home = unsafe { &*cell.home.load(Relaxed).cast::<Atomic<*mut bindings::net>>() };
    home.store(core::ptr::null_mut(), Release);
    cell.live.store(core::ptr::null(), Relaxed);
}

/// # Safety
///
/// Only for the pernet core.
unsafe extern "C" fn exit_callback<T: PerNet>(net: *mut bindings::net) {
    // SAFETY: As above, a grace period after `pre_exit`: nobody uses the pointer to take a
    // reference any more, and so ours may go.
    unsafe {
        let cell = T::slot().cell(Net::from_raw(net));
        drop(Arc::from_raw(cell.owned.load(Relaxed).cast::<T>()));
        drop(Arc::from_raw(
            cell.home.load(Relaxed).cast::<Atomic<*mut bindings::net>>(),
        ));
    }
}

/// Waits until all packets that are being processed now are done with. May sleep.
pub(crate) fn synchronize_net() {
    // SAFETY: No requirements but that we may sleep.
    unsafe { bindings::synchronize_net() };
}

/// Waits for all RCU callbacks that are pending now. May sleep. Before the module's text goes.
pub(crate) fn rcu_barrier() {
    // SAFETY: No requirements but that we may sleep.
    unsafe { bindings::rcu_barrier() };
}
