//! Calls of this program's own functions of libtorch's tensors.

use std::ffi::{CStr, c_char};
use std::ptr;

use tch::Tensor;
use torch_sys::C_tensor;

/// The tensor that a call wrote to its argument.
///
/// # Panics
/// If the call failed, as the bindings report libtorch's failures: engines catch shortages of memory.
///
/// # Safety
/// The call must write a new tensor, or return a NUL-terminated text that lives until this thread's next call.
pub(super) unsafe fn taken(call: impl FnOnce(*mut *mut C_tensor) -> *const c_char) -> Tensor {
    let mut out = ptr::null_mut();
    let failure = call(&raw mut out);
    if failure.is_null() {
        // SAFETY: a new tensor without another owner.
        return unsafe { Tensor::from_ptr(out) };
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(failure) }.to_string_lossy().into_owned();
    panic!("{text}");
}
