//! The `kernelview` command.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write as _};

use kernelview::cli::SHORTAGE_ADVICE;

/// The system's allocator, but where a large piece of memory cannot be had the process ends with an error that says so:
/// what Rust does in its place is to abort. (libtorch's memory is not this one's.)
struct OrEnd;

/// Smaller pieces are left to Rust: where even these cannot be had, printing may fail too.
const LARGE: usize = 1 << 20;

// SAFETY: everything is the system's allocator, whose contract is this one's.
unsafe impl GlobalAlloc for OrEnd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        or_end(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.realloc(old, layout, size) }, size)
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(piece, layout) }
    }
}

fn or_end(piece: *mut u8, size: usize) -> *mut u8 {
    if piece.is_null() && size >= LARGE {
        let mut line = Cursor::new([0u8; 512]);
        // Without a buffer: there is no memory for one. What does not fit is left out.
        let _ = writeln!(line, "error: out of memory when {size} bytes more were asked for: {SHORTAGE_ADVICE}");
        let length = usize::try_from(line.position()).unwrap_or(0);
        // SAFETY: the bytes are this function's own; the process ends without running anything else.
        unsafe {
            libc::write(2, line.get_ref().as_ptr().cast(), length);
            libc::_exit(1);
        }
    }
    piece
}

#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

fn main() -> std::process::ExitCode {
    kernelview::cli::main()
}
