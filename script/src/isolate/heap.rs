//! The memory of one isolate: an allocator that counts, refuses what goes beyond the limit, and remembers that it did.
//!
//! The engine's own limit only makes the script's allocation throw, which it may catch; an isolate that has met its
//! limit is to be given up, so that has to be known outside.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr;
use std::rc::Rc;

use rquickjs::allocator::Allocator;

/// What an isolate holds, shared between its allocator and its owner.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: usize,
    used: Cell<usize>,
    /// What is kept outside the heap, of `used`.
    held: Cell<usize>,
    refused: Cell<bool>,
}

impl Meter {
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self { limit, used: Cell::new(0), held: Cell::new(0), refused: Cell::new(false) })
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    /// Whether something was refused.
    pub(crate) fn refused(&self) -> bool {
        self.refused.get()
    }

    /// Whether so many further bytes fit.
    fn admits(&self, more: usize) -> bool {
        let fits = self.used.get().checked_add(more).is_some_and(|total| total <= self.limit);
        if !fits {
            self.refused.set(true);
        }
        fits
    }

    /// Counts so many bytes outside the heap, instead of as many as before.
    pub(crate) fn hold(&self, bytes: usize) {
        self.subtract(self.held.replace(bytes));
        self.add(bytes);
        self.admits(0);
    }

    fn add(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
    }

    fn subtract(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }
}

/// The C library's allocator, metered.
pub(crate) struct Heap(pub(crate) Rc<Meter>);

impl Heap {
    /// Counts a fresh allocation.
    fn count(&mut self, memory: *mut libc::c_void) -> *mut u8 {
        if memory.is_null() {
            self.0.refused.set(true);
        } else {
            // SAFETY: `memory` was just given by the C library and is live.
            self.0.add(unsafe { libc::malloc_usable_size(memory) });
        }
        memory.cast()
    }
}

// SAFETY: every pointer comes from the C library's allocator, which aligns for any type, gives at least what was asked
// for or null, and knows the usable size of what it gave.
unsafe impl Allocator for Heap {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        if !self.0.admits(size) {
            return ptr::null_mut();
        }
        // SAFETY: any size may be asked for.
        let memory = unsafe { libc::malloc(size) };
        self.count(memory)
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        if !count.checked_mul(size).is_some_and(|total| self.0.admits(total)) {
            self.0.refused.set(true);
            return ptr::null_mut();
        }
        // SAFETY: any size may be asked for; the product was checked.
        let memory = unsafe { libc::calloc(count, size) };
        self.count(memory)
    }

    unsafe fn dealloc(&mut self, memory: *mut u8) {
        // SAFETY: the caller gives back what it got from here.
        unsafe {
            self.0.subtract(libc::malloc_usable_size(memory.cast()));
            libc::free(memory.cast());
        }
    }

    unsafe fn realloc(&mut self, memory: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller gives what it got from here, or null, of which the usable size is 0.
        let before = unsafe { libc::malloc_usable_size(memory.cast()) };
        if size > before && !self.0.admits(size - before) {
            return ptr::null_mut();
        }
        if size == 0 && !memory.is_null() {
            // SAFETY: as above. What `realloc` does with 0 differs between C libraries.
            unsafe { self.dealloc(memory) };
            return ptr::null_mut();
        }
        // SAFETY: as above.
        let moved = unsafe { libc::realloc(memory.cast(), size) };
        if !moved.is_null() {
            self.0.subtract(before);
        }
        self.count(moved)
    }

    unsafe fn usable_size(memory: *mut u8) -> usize {
        // SAFETY: the caller gives what it got from here.
        unsafe { libc::malloc_usable_size(memory.cast()) }
    }
}
