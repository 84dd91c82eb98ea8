//! The `kernelview` command.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write as _};

use kernelview::cli::SHORTAGE_ADVICE;

/// The system's allocator, except that the process ends with an error message if a large allocation fails, where Rust would
/// abort. (libtorch allocates its memory elsewhere.)
struct OrEnd;

/// Smaller allocations are left to Rust: if even they fail, printing may fail too.
const LARGE: usize = 1 << 20;

// SAFETY: all calls are passed on to the system's allocator.
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
        // On the stack, because there is no memory for a buffer; text that does not fit is cut.
        let _ = writeln!(line, "error: out of memory (tried to allocate {size} more bytes): {SHORTAGE_ADVICE}");
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

fn main() -> ! {
    let code = kernelview::cli::main();
    let _ = std::io::stdout().flush();
    // libtorch would now take its tables apart entry by entry, which the system does faster.
    // SAFETY: everything of this program's own has been dropped and flushed; the process ends without running anything else.
    unsafe { libc::_exit(code.into()) }
}
