// SPDX-License-Identifier: GPL-2.0

//! Objects of one type that are many, in a `kmem_cache` of their own: each takes the room that it
//! needs, where `kmalloc()` would round it up to the next power of two.
//!
//! An object counts its references itself, in a field of type [`Count`], and is held by
//! [`ARef`]s. The type says so with [`impl_in_slab!`]:
//!
//! ```ignore
//! struct Flow { refs: slab::Count, ... }
//! static FLOWS: Slab<Flow> = Slab::new();
//! impl_in_slab! { impl InSlab for Flow { self.refs } }
//!
//! let flow = FLOWS.alloc(|refs| pin_init!(Flow { refs, ... }), &guard)?;
//! ```
//!
//! The cache exists while its [`Registration`] does, which the module keeps.

use super::{bindings, rcu as callbacks, series};
use core::{marker::PhantomData, ptr, ptr::NonNull};
use kernel::{
    prelude::*,
    str::CStr,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{
            ordering::{Acquire, Full},
            Atomic,
        },
        rcu::Guard,
        Refcount,
    },
};

/// The number of references to an object. Each is made by [`Slab::alloc`], for the object that it
/// allocates.
pub(crate) struct Count(Refcount);

/// A type whose objects are in a [`Slab`], and nowhere else. See [`impl_in_slab!`].
///
/// # Safety
///
/// The same field each time.
pub(crate) unsafe trait InSlab: AlwaysRefCounted + Send + Sync + 'static {
    /// The number of references.
    fn count(&self) -> &Count;
}

/// Declares which field of a type is its [`Count`], as `impl_has_work!` does.
macro_rules! impl_in_slab {
    (impl InSlab for $self:ty { self.$field:ident }) => {
        // SAFETY: It is one field.
        // (Clippy does not see the comments in here through the macro.)
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
        unsafe impl $crate::net::slab::InSlab for $self {
            #[inline]
            fn count(&self) -> &$crate::net::slab::Count {
                &self.$field
            }
        }
        // SAFETY: The last reference frees the object. Each object is counted from its beginning:
        // it has a `Count`, which `Slab::alloc` alone makes, with the one reference that it gives
        // out.
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
        unsafe impl ::kernel::sync::aref::AlwaysRefCounted for $self {
            #[inline]
            fn inc_ref(&self) {
                $crate::net::slab::inc(self)
            }

            #[inline]
            unsafe fn dec_ref(object: ::core::ptr::NonNull<Self>) {
                // SAFETY: By the contract of this function.
                unsafe { $crate::net::slab::dec(object) }
            }
        }
    };
}
pub(crate) use impl_in_slab;

/// One reference more.
#[inline]
pub(crate) fn inc<T: InSlab>(object: &T) {
    object.count().0.inc();
}

/// One reference less. The last one drops the object and frees it.
///
/// # Safety
///
/// As [`AlwaysRefCounted::dec_ref`].
#[inline]
pub(crate) unsafe fn dec<T: InSlab>(object: NonNull<T>) {
    // SAFETY: The caller has a reference, so it is valid.
    if !unsafe { object.as_ref() }.count().0.dec_and_test() {
        return;
    }
    // SAFETY: That was the last reference, so nobody else has the object, and nobody will. Its
    // room is a slab's, which `kfree()` finds out by itself (mm/slub.c).
    unsafe {
        object.drop_in_place();
        bindings::kfree(object.as_ptr().cast());
    }
}

/// A cache of objects of type `T`.
///
/// # Invariants
///
/// `cache` is null or a cache of objects of the size and alignment of `T`, which is destroyed a
/// grace period after this became null again.
pub(crate) struct Slab<T: InSlab> {
    cache: Atomic<*mut bindings::kmem_cache>,
    _objects: PhantomData<fn() -> T>,
}

// SAFETY: There is only an atomic pointer in it, to what C synchronises.
unsafe impl<T: InSlab> Sync for Slab<T> {}

impl<T: InSlab> Slab<T> {
    /// No cache yet.
    pub(crate) const fn new() -> Self {
        // INVARIANT: Null is permitted.
        Self {
            cache: Atomic::new(ptr::null_mut()),
            _objects: PhantomData,
        }
    }

    /// Creates the cache, which `/proc/slabinfo` shows as `name`. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` if it is there already.
    pub(crate) fn register(&'static self, name: &'static CStr) -> Result<Registration<T>> {
        let (size, align) = (size_of::<T>() as u32, align_of::<T>() as u32);
        // SAFETY: The name lives for ever, and is a string of C.
        let cache = unsafe { bindings::hf_kmem_cache_create(name.as_char_ptr(), size, align) };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: Made for such objects.
        if self.cache.cmpxchg(ptr::null_mut(), cache, Full).is_err() {
            // SAFETY: It was made above, and nobody has seen it.
            unsafe { bindings::kmem_cache_destroy(cache) };
            return Err(EBUSY);
        }
        Ok(Registration(self))
    }

    /// A new object, with one reference. Any context.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; whatever `make` fails with.
    pub(crate) fn alloc<E, I: PinInit<T, E>>(
        &self,
        make: impl FnOnce(Count) -> I,
        _guard: &Guard,
    ) -> Result<ARef<T>>
    where
        Error: From<E>,
    {
        let cache = self.cache.load(Acquire);
        if cache.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: By the type invariant: it was there under this RCU read lock.
        let room = unsafe { bindings::hf_kmem_cache_alloc_atomic(cache) };
        let room = NonNull::new(room.cast::<T>()).ok_or(ENOMEM)?;
        let init = make(Count(Refcount::new(1)));
        // SAFETY: So much room, which is ours and does not move.
        match unsafe { series::init_in(room.as_ptr(), init) } {
            // SAFETY: The object has one reference, which this is.
            Ok(()) => Ok(unsafe { ARef::from_raw(room) }),
            Err(why) => {
                // SAFETY: Allocated above; an initialiser that fails leaves nothing in it.
                unsafe { bindings::kfree(room.as_ptr().cast()) };
                Err(why.into())
            }
        }
    }
}

/// Keeps a cache. Its drop destroys it, after all deferred drops; it may sleep. An object that is
/// still there then is a leak, of which the kernel warns.
pub(crate) struct Registration<T: InSlab>(&'static Slab<T>);

impl<T: InSlab> Drop for Registration<T> {
    fn drop(&mut self) {
        let cache = self.0.cache.xchg(ptr::null_mut(), Full);
        // INVARIANT: Nobody allocates from it any more after the grace period,
        callbacks::synchronize();
        // and whoever is freed by RCU has been.
        callbacks::barrier();
        // SAFETY: From `kmem_cache_create()`, and only this registration destroys it.
        unsafe { bindings::kmem_cache_destroy(cache) };
    }
}
