// SPDX-License-Identifier: GPL-2.0

//! The kernel's resizable hash table, of refcounted entries, read under RCU.
//!
//! An entry is an object behind [`ARef`]s that embeds a [`Link`] (several, to be in several tables)
//! and says so with [`impl_has_link!`]. The table owns one reference to each of its entries. When
//! an entry leaves, that reference is dropped *after a grace period*. So whatever a reader finds
//! under the RCU read lock has a reference count above zero for as long as it holds that lock, and
//! it may take a reference of its own, for there is nothing like `refcount_inc_not_zero()` in an
//! `ARef`.
//!
//! A consequence: the last reference may be dropped in softirq context, so dropping an entry must
//! not sleep.
//!
//! The key is a fixed number of bytes, so that C inlines hash and comparison
//! (`rust/helpers/rhashtable.c`). The hash is seeded at random in each table.

use super::{bindings, work::cond_resched};
use core::{
    cell::Cell,
    marker::{PhantomData, PhantomPinned},
    ptr::NonNull,
};
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{
            ordering::{Acquire, Relaxed, Release},
            Atomic,
        },
        rcu::Guard,
        Arc,
    },
    types::Opaque,
};

/// The length of a key: two IPv6 addresses, two ports, and four bytes to tell kinds apart.
pub(crate) const KEY_LEN: usize = 40;

/// A key: plain bytes, compared as such. What is not used must be zero, or always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub(crate) struct Key([u8; KEY_LEN]);

impl Key {
    /// A key of these bytes.
    #[inline]
    pub(crate) const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[inline]
    pub(crate) const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// Where a [`Link`] is in its life. It may go round again.
mod state {
    /// In no table.
    pub(super) const IDLE: u32 = 0;
    /// In a table, or about to be; the table has a reference to the object.
    pub(super) const LINKED: u32 = 1;
    /// Taken out, with readers possibly still on it; the reference is dropped after them.
    pub(super) const LEAVING: u32 = 2;
}

/// The field by which an object of type `T` is an entry of an [`RhashTable`].
///
/// # Invariants
///
/// Only who changed `state` from `IDLE` to `LINKED` gives `head` to a table, and only who took it
/// out of there uses `rcu`.
#[repr(C)]
pub(crate) struct Link<T, const ID: u64 = 0> {
    // The first two fields are `struct hf_rhash_link` in C.
    head: Opaque<bindings::rhash_head>,
    key: Key,
    rcu: Opaque<bindings::callback_head>,
    state: Atomic<u32>,
    _entry: PhantomData<fn(T)>,
    _pin: PhantomPinned,
}

// SAFETY: What is in `head` and `rcu` is only touched by C, under its own locks and RCU's rules.
unsafe impl<T, const ID: u64> Send for Link<T, ID> {}
// SAFETY: As above.
unsafe impl<T, const ID: u64> Sync for Link<T, ID> {}

impl<T: HasLink<ID>, const ID: u64> Link<T, ID> {
    const LAYOUT: () = {
        assert!(core::mem::offset_of!(Self, head) == 0);
        assert!(core::mem::offset_of!(Self, key) == 8);
        assert!(core::mem::size_of::<bindings::rhash_head>() == 8);
    };

    /// A link that is in no table yet. The key cannot be changed later.
    #[inline]
    pub(crate) const fn new(key: Key) -> Self {
        const { Self::LAYOUT };
        // INVARIANT: In no table.
        Self {
            head: Opaque::uninit(),
            key,
            rcu: Opaque::uninit(),
            state: Atomic::new(state::IDLE),
            _entry: PhantomData,
            _pin: PhantomPinned,
        }
    }

    /// The key.
    #[inline]
    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    /// Whether a table has the object (a moment ago, if nothing keeps it there).
    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        self.state.load(Relaxed) == state::LINKED
    }

    /// Drops the reference that a table had to the object, now that all readers are gone.
    ///
    /// # Safety
    ///
    /// `rcu` must be that of a link in an object of type `T`; the caller gives up a reference to
    /// it.
    unsafe extern "C" fn left(rcu: *mut bindings::callback_head) {
        let rcu = Opaque::cast_from(rcu);
        // SAFETY: By the contract of this function.
        let link = unsafe { kernel::container_of!(rcu, Self, rcu) };
        // SAFETY: The reference keeps the object alive. RCU is done with `rcu` when it calls, so
        // the link may be used again.
        unsafe { (*link).state.store(state::IDLE, Release) };
        // SAFETY: By the contract of this function; `insert` leaked it by `ARef::into_raw`.
        drop(unsafe { reference(link) });
    }
}

/// The reference that a table has to the object of `link`, to be dropped.
///
/// # Safety
///
/// It must be the caller's to drop.
unsafe fn reference<T: HasLink<ID>, const ID: u64>(link: *const Link<T, ID>) -> ARef<T> {
    // SAFETY: The link is in a valid object, so neither is null. The reference is the caller's.
    unsafe {
        ARef::from_raw(NonNull::new_unchecked(
            T::link_container_of(link).cast_mut(),
        ))
    }
}

/// A type that has a [`Link`]; `ID` tells several of them apart. See [`impl_has_link!`].
///
/// # Safety
///
/// The two functions must be inverses of each other.
pub(crate) unsafe trait HasLink<const ID: u64 = 0>:
    AlwaysRefCounted + Sized + Send + Sync + 'static
{
    /// The link of an object.
    ///
    /// # Safety
    ///
    /// `this` must point at a valid object.
    unsafe fn raw_get_link(this: *const Self) -> *const Link<Self, ID>;

    /// The object of a link.
    ///
    /// # Safety
    ///
    /// `link` must point at the link in a valid object.
    unsafe fn link_container_of(link: *const Link<Self, ID>) -> *const Self;
}

/// Declares which field of a type is its [`Link`], as `impl_has_work!` does.
///
/// ```ignore
/// impl_has_link! { impl HasLink<0> for Flow { self.link } }
/// ```
macro_rules! impl_has_link {
    (impl HasLink<$id:literal> for $self:ty { self.$field:ident }) => {
        // SAFETY: Both functions compute with the offset of the same field, whose type says that
        // it is the link of this type with this number.
        // (Clippy does not see the comment above through the macro.)
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
        unsafe impl $crate::net::rhashtable::HasLink<$id> for $self {
            #[inline]
            unsafe fn raw_get_link(
                this: *const Self,
            ) -> *const $crate::net::rhashtable::Link<Self, $id> {
                // SAFETY: The caller promises that `this` is a valid object.
                unsafe { &raw const (*this).$field }
            }

            #[inline]
            unsafe fn link_container_of(
                link: *const $crate::net::rhashtable::Link<Self, $id>,
            ) -> *const Self {
                // SAFETY: The caller promises that `link` is in a valid object.
                unsafe { ::kernel::container_of!(link, Self, $field) }
            }
        }
    };
}
pub(crate) use impl_has_link;

/// Why an entry was not inserted.
pub(crate) enum InsertError<'a, T> {
    /// There is one with the same key: this.
    Exists(&'a T),
    /// The table is full (`E2BIG`), memory is short (`ENOMEM`), the link is in use (`EBUSY`).
    Failed(Error),
}

impl<T> From<InsertError<'_, T>> for Error {
    fn from(e: InsertError<'_, T>) -> Error {
        match e {
            InsertError::Exists(_) => EEXIST,
            InsertError::Failed(e) => e,
        }
    }
}

/// A hash table of `ARef<T>`, keyed by what is in the link number `ID` of `T`.
///
/// Lookup takes no lock; insertion and removal take one bit per bucket. All three are for any
/// context. The table grows and shrinks by itself, in a work item.
#[pin_data(PinnedDrop)]
pub(crate) struct RhashTable<T: HasLink<ID>, const ID: u64 = 0> {
    #[pin]
    ht: Opaque<bindings::rhashtable>,
    _entries: PhantomData<ARef<T>>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The table hands out `&T` and drops `T` on any thread, and `HasLink` requires that this
// is allowed. The C functions do their own locking.
unsafe impl<T: HasLink<ID>, const ID: u64> Send for RhashTable<T, ID> {}
// SAFETY: As above.
unsafe impl<T: HasLink<ID>, const ID: u64> Sync for RhashTable<T, ID> {}

impl<T: HasLink<ID>, const ID: u64> RhashTable<T, ID> {
    /// An empty table for at most `max` entries (a few more, if several CPUs insert at once).
    /// May sleep.
    pub(crate) fn new(max: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            ht <- Opaque::try_ffi_init(move |slot| {
                if max == 0 || max > 1 << 30 {
                    return Err(EINVAL);
                }
                // SAFETY: The slot may be written, and is pinned as part of `Self`.
                to_result(unsafe { bindings::hf_rhashtable_init(slot, max) })
            }),
            _entries: PhantomData,
            _pin: PhantomPinned,
        })
    }

    /// The entry with this key. Any context.
    #[inline]
    pub(crate) fn get<'a>(&'a self, key: &Key, _guard: &'a Guard) -> Option<&'a T> {
        // SAFETY: The table is initialised, `key` is as long as it says to C, and `_guard` holds
        // the RCU read lock.
        let link =
            unsafe { bindings::hf_rhashtable_lookup(self.ht.get(), (&raw const *key).cast()) };
        // SAFETY: What C returns is null or a link of this table, found under the guard.
        NonNull::new(link).map(|link| unsafe { Self::entry(link) })
    }

    /// As [`RhashTable::get`], of an IPv4 key with these addresses and ports, which are bytes in
    /// network order.
    #[inline]
    pub(crate) fn get_ipv4<'a>(
        &'a self,
        [client, service, ports]: [[u8; 4]; 3],
        _guard: &'a Guard,
    ) -> Option<&'a T> {
        let word = u32::from_ne_bytes;
        // SAFETY: The table is initialised, and `_guard` holds the RCU read lock.
        let link = unsafe {
            bindings::hf_rhashtable_lookup_ipv4(
                self.ht.get(),
                word(client),
                word(service),
                word(ports),
            )
        };
        // SAFETY: As in `get`.
        NonNull::new(link).map(|link| unsafe { Self::entry(link) })
    }

    /// As [`RhashTable::get`], of an IPv6 key of these words.
    #[inline]
    pub(crate) fn get_ipv6<'a>(
        &'a self,
        [c0, c1, s0, s1, rest]: [u64; KEY_LEN / 8],
        _guard: &'a Guard,
    ) -> Option<&'a T> {
        // SAFETY: The table is initialised, and `_guard` holds the RCU read lock.
        let link =
            unsafe { bindings::hf_rhashtable_lookup_ipv6(self.ht.get(), c0, c1, s0, s1, rest) };
        // SAFETY: As in `get`.
        NonNull::new(link).map(|link| unsafe { Self::entry(link) })
    }

    /// Inserts `entry`, unless there is one with its key. Any context.
    ///
    /// # Errors
    ///
    /// See [`InsertError`]. The reference is dropped then.
    pub(crate) fn insert<'a>(
        &'a self,
        entry: ARef<T>,
        _guard: &'a Guard,
    ) -> Result<(), InsertError<'a, T>> {
        // SAFETY: `entry` is valid.
        let link = unsafe { T::raw_get_link(&raw const *entry) };
        // SAFETY: The link is in `entry`.
        let state = unsafe { &(*link).state };
        // INVARIANT: `head` is ours from here on, until the state is set back or the entry removed.
        if state.cmpxchg(state::IDLE, state::LINKED, Acquire).is_err() {
            return Err(InsertError::Failed(EBUSY));
        }
        // The table's reference, to be there before anyone can find the entry.
        let raw = ARef::into_raw(entry);
        // SAFETY: The table is initialised; the link is in no table, and lives for as long as it
        // is in this one because of that reference.
        let found = unsafe {
            bindings::hf_rhashtable_lookup_get_insert(self.ht.get(), link.cast_mut().cast())
        };
        let error = match from_err_ptr(found) {
            Ok(found) => match NonNull::new(found) {
                None => return Ok(()),
                // SAFETY: This is a link of this table, and the guard holds the RCU read lock
                // since before the search.
                Some(found) => InsertError::Exists(unsafe { Self::entry(found) }),
            },
            Err(e) => InsertError::Failed(e),
        };
        // INVARIANT: The table did not take it.
        state.store(state::IDLE, Release);
        // SAFETY: From `ARef::into_raw` above, and not taken by the table.
        drop(unsafe { ARef::from_raw(raw) });
        Err(error)
    }

    /// Takes `entry` out. Returns false if it is not in this table, or is already being taken out.
    ///
    /// Any context. Readers may see it until a grace period later; only then does the table drop
    /// its reference.
    pub(crate) fn remove(&self, entry: &T) -> bool {
        // SAFETY: `entry` is valid.
        let link = unsafe { T::raw_get_link(entry) };
        // SAFETY: The link is in `entry`.
        let state = unsafe { &(*link).state };
        if state.load(Acquire) != state::LINKED {
            return false;
        }
        // SAFETY: The table is initialised. C looks for the link by its key and its address, and
        // reads the head only of one that it has found in this table.
        if unsafe { bindings::hf_rhashtable_remove(self.ht.get(), link.cast_mut().cast()) } != 0 {
            return false;
        }
        // INVARIANT: C returns 0 for one caller only, so `rcu` is ours.
        state.store(state::LEAVING, Relaxed);
        // SAFETY: `rcu` is in the object, which lives until the callback drops the table's
        // reference, given up here.
        unsafe { bindings::call_rcu((*link).rcu.get(), Some(Link::<T, ID>::left)) };
        true
    }

    /// The number of entries. Any context.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: The table is initialised.
        unsafe { bindings::hf_rhashtable_nelems(self.ht.get()) }
    }

    /// Whether there are no entries.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` for each entry. Process context. It needs no memory, so that nobody goes without an
    /// answer for want of it: what is asked may be whether a flow would break.
    ///
    /// `f` runs under the RCU read lock: it must not sleep. Between groups of entries the lock is
    /// released and other tasks may run. What is seen, and how often: see [`Walk`].
    pub(crate) fn for_each(&self, mut f: impl FnMut(&T)) {
        const GROUP: usize = 64;
        self.in_parts(GROUP, &mut f, cond_resched);
    }

    /// As [`RhashTable::for_each`], but `f` may sleep, as it has a reference of its own.
    pub(crate) fn for_each_owned(&self, mut f: impl FnMut(ARef<T>)) {
        let next = Cell::new(None);
        self.in_parts(
            1,
            |entry| next.set(Some(entry.into())),
            || {
                if let Some(entry) = next.take() {
                    f(entry);
                }
            },
        );
    }

    /// Calls `f` for all entries, and `between` after each `n` of them and at the end.
    fn in_parts(&self, n: usize, mut f: impl FnMut(&T), mut between: impl FnMut()) {
        // It stays where it is: C has its address until the end of this function.
        let iter = Opaque::uninit();
        // SAFETY: The table is initialised, and borrowed until after `rhashtable_walk_exit()`.
        unsafe { bindings::rhashtable_walk_enter(self.ht.get(), iter.get()) };
        loop {
            // SAFETY: Initialised above, for this table.
            let (more, _) = unsafe { Self::part(iter.get(), n, &mut f) };
            between();
            if !more {
                break;
            }
        }
        // SAFETY: As above; nobody uses it afterwards.
        unsafe { bindings::rhashtable_walk_exit(iter.get()) };
    }

    /// Calls `f` for up to `n` entries. Returns whether there may be more, and whether the walk had to
    /// begin again.
    ///
    /// # Safety
    ///
    /// `iter` must have been initialised by `rhashtable_walk_enter()` for a table of this type, which
    /// is there until afterwards.
    unsafe fn part(
        iter: *mut bindings::rhashtable_iter,
        n: usize,
        mut f: impl FnMut(&T),
    ) -> (bool, bool) {
        // SAFETY: By the contract of this function. This takes the RCU read lock, released below.
        let mut restarted = unsafe { bindings::rhashtable_walk_start_check(iter) } != 0;
        let (mut more, mut seen) = (true, 0);
        while more && seen < n {
            // SAFETY: By the contract of this function, between start and stop.
            match from_err_ptr(unsafe { bindings::rhashtable_walk_next(iter) }) {
                Ok(link) => match NonNull::new(link) {
                    None => more = false,
                    Some(link) => {
                        seen += 1;
                        // SAFETY: A link of the table, found under the RCU read lock, which is
                        // held until after `f`.
                        f(unsafe { Self::entry(link) });
                    }
                },
                // The only error is EAGAIN: the iterator is at the begin of a new table.
                Err(_) => restarted = true,
            }
        }
        // SAFETY: Started above.
        unsafe { bindings::rhashtable_walk_stop(iter) };
        (more, restarted)
    }

    /// A walk over all entries that keeps the owner of the table, so that it can wait between the
    /// parts of a netlink dump. `table` says where in the owner the table is. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn walk_of<O: Send + Sync + 'static>(
        owner: Arc<O>,
        table: impl FnOnce(&O) -> &Self,
    ) -> Result<Walk<Arc<O>, T, ID>> {
        let this: *const Self = table(&owner);
        // SAFETY: The table is in `*owner` or borrowed from there, and an `Arc` never moves what
        // it points to and gives out no unique reference while the walk has it.
        unsafe { Walk::new(owner, this) }
    }

    /// # Safety
    ///
    /// `link` must come from a table of this type, under the RCU read lock, which is to be held
    /// during `'a`.
    #[inline]
    unsafe fn entry<'a>(link: NonNull<kernel::ffi::c_void>) -> &'a T {
        // SAFETY: The table had a reference to the object when the link was found, and drops it
        // only after a grace period.
        unsafe { &*T::link_container_of(link.as_ptr().cast()) }
    }

    /// # Safety
    ///
    /// `link` must be an entry of a table that is being destroyed.
    unsafe extern "C" fn free_entry(
        link: *mut kernel::ffi::c_void,
        _arg: *mut kernel::ffi::c_void,
    ) {
        let link = link.cast::<Link<T, ID>>();
        // SAFETY: The table's reference keeps the object alive.
        unsafe { (*link).state.store(state::IDLE, Release) };
        // SAFETY: The table's reference, leaked in `insert`. The table can have no readers, because
        // what they found borrows it.
        drop(unsafe { reference(link) });
    }
}

#[pinned_drop]
impl<T: HasLink<ID>, const ID: u64> PinnedDrop for RhashTable<T, ID> {
    /// Drops the references to the entries that are left. Sleeps.
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The table is initialised, nobody else has it, and its entries are as
        // `free_entry` wants them.
        unsafe {
            bindings::rhashtable_free_and_destroy(
                self.ht.get(),
                Some(Self::free_entry),
                core::ptr::null_mut(),
            )
        }
    }
}

/// A walk over the entries of a table that can be interrupted, for dumps. Process context only: the
/// lock of the walkers is not one for softirqs.
///
/// An entry that is there all the time is seen at least once. It may be seen again if the table
/// is resized meanwhile; see [`Walk::restarted`].
///
/// # Invariants
///
/// `iter` was initialised by `rhashtable_walk_enter()` for a table that `_owner` keeps in place.
pub(crate) struct Walk<H, T: HasLink<ID>, const ID: u64 = 0> {
    iter: KBox<Opaque<bindings::rhashtable_iter>>,
    restarted: bool,
    _owner: H,
    _entries: PhantomData<ARef<T>>,
}

// SAFETY: The iterator is linked into the table, under its lock, and not bound to a thread between
// the calls.
unsafe impl<H: Send, T: HasLink<ID>, const ID: u64> Send for Walk<H, T, ID> {}

impl<H, T: HasLink<ID>, const ID: u64> Walk<H, T, ID> {
    /// # Safety
    ///
    /// `table` must be valid for as long as `owner` is.
    unsafe fn new(owner: H, table: *const RhashTable<T, ID>) -> Result<Self> {
        let iter = KBox::new(Opaque::uninit(), GFP_KERNEL)?;
        // SAFETY: By the contract of this function the table is valid until after `drop`, which
        // calls `rhashtable_walk_exit()`. The iterator is in a box, so it does not move.
        unsafe { bindings::rhashtable_walk_enter((*table).ht.get(), iter.get()) };
        // INVARIANT: Just initialised.
        Ok(Self {
            iter,
            restarted: false,
            _owner: owner,
            _entries: PhantomData,
        })
    }

    /// The next entry; `None` at the end. May be followed by anything, sleeping too.
    ///
    /// (Not an `Iterator`, which would invite `collect`.)
    #[allow(clippy::should_implement_trait)]
    pub(crate) fn next(&mut self) -> Option<ARef<T>> {
        let mut next = None;
        // SAFETY: By the type invariant.
        let (_, restarted) = unsafe {
            RhashTable::<T, ID>::part(self.iter.get(), 1, |entry| next = Some(entry.into()))
        };
        self.restarted |= restarted;
        next
    }

    /// Whether the walk had to begin again since this was last asked, because the table was
    /// resized. A dump says so to its reader.
    pub(crate) fn restarted(&mut self) -> bool {
        core::mem::take(&mut self.restarted)
    }
}

impl<H, T: HasLink<ID>, const ID: u64> Drop for Walk<H, T, ID> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; `_owner` is dropped after this.
        unsafe { bindings::rhashtable_walk_exit(self.iter.get()) };
    }
}
