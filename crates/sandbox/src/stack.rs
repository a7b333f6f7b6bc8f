//! Memory to run on, for a process that uses that of its parent.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;

/// Bytes, for a process that makes a few system calls and holds a small buffer.
const SIZE: usize = 32 * 1024;

/// Room for one process. Must outlive it.
pub(crate) struct Stack(Box<[MaybeUninit<UnsafeCell<u8>>]>);

impl Stack {
    pub(crate) fn new() -> Self {
        Self(Box::new_uninit_slice(SIZE))
    }

    /// Its highest address, as stacks grow downwards; aligned as every architecture wants it.
    pub(crate) fn top(&self) -> *mut c_void {
        let end = self.0.as_ptr_range().end;
        end.wrapping_sub(end.addr() % 16).cast_mut().cast()
    }
}
