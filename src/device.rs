//! Device, element type and thread count. The only module that touches libtorch's process-wide state.

use std::fmt;
use std::str::FromStr;

use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::launch::{environment, local_rank};
use crate::setting::Field;

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // libtorch appends its C++ stack after the first line; users need only the reason.
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or("unknown failure").trim();
        Self::Torch(reason.trim_start_matches("Internal torch error: ").to_owned())
    }
}

/// The libtorch release that this program is built against.
pub const TORCH_VERSION: &str = "2.11.0";

/// Element type of parameters, activations and gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision: the default; kernels agree with double precision to about 1e-5 relative.
    F32,
    /// IEEE double precision: for golden comparisons and small models.
    F64,
}

impl Dtype {
    /// libtorch's type.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// The device that the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// `cuda:0` if a CUDA libtorch finds a GPU, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its index.
    Cuda(usize),
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => s
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{s}` is not one of auto, cpu, cuda, cuda:INDEX")),
        }
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(i) => write!(f, "cuda:{i}"),
        }
    }
}

impl DeviceRequest {
    /// The device to use. Fails if a GPU is asked for by name and there is none.
    pub fn resolve(self) -> Result<Device> {
        if self == Self::Cpu {
            return Ok(Device::Cpu);
        }
        load_cuda_backend();
        let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
        match self {
            Self::Cuda(i) if i < count => Ok(Device::Cuda(i)),
            Self::Cuda(i) => Err(Error::setting(
                Field::Device,
                format!("cuda:{i}"),
                format!("cpu, or a libtorch built with CUDA (LIBTORCH): this one finds {count} CUDA device(s)"),
            )),
            // One process per GPU, if a launcher assigns one.
            _ if count > 0 => {
                let local = local_rank(&environment);
                Ok(Device::Cuda(local.map_or(0, |rank| rank % count)))
            }
            _ => Ok(Device::Cpu),
        }
    }
}

/// A CUDA libtorch registers its devices only when `libtorch_cuda.so` is loaded, and this program refers to none of its
/// symbols, so the linker drops it: load it explicitly. A CPU-only libtorch has no such file and nothing happens.
fn load_cuda_backend() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the name is a NUL-terminated constant; loading runs libtorch's own initializers, as linking would.
        unsafe { libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    }
}

/// Prepares the process for allocating and freeing large tensors; call it first in `main`, before any other thread starts.
///
/// Touching a page for the first time costs microseconds on virtual machines, and freed tensors return their pages at once.
/// Huge pages for large tensors, and keeping freed memory for reuse, avoid that cost.
///
/// All threads allocate from one arena, so that memory freed by one thread's pass serves another's. (Separate arenas would
/// also reserve 128 MB of address space per thread; under a limit, a thread for which that fails makes a system call for
/// every allocation and becomes so slow that it seems to hang.)
pub fn prepare_process() {
    const HUGE_PAGES: &str = "THP_MEM_ALLOC_ENABLE";
    if std::env::var_os(HUGE_PAGES).is_none() {
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::set_var(HUGE_PAGES, "1") };
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt takes two integers and changes only how later allocations are served.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
            libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Lets every thread allocate from memory of its own: for small networks, whose many small tensors make threads wait for one
/// another at every allocation, and whose freed memory is too little to be worth sharing. Not under a limit on the address space
/// (see [`prepare_process`]). glibc reads this once: call it after [`prepare_process`], before any other thread starts.
pub fn separate_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if address_space().is_none() {
        // Those of the work, of libtorch, and of Ctrl-C and progress.
        let threads = 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get) + 2;
        // SAFETY: as in `prepare_process`.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(threads).unwrap_or(libc::c_int::MAX)) };
    }
}

/// How often an idle libtorch thread polls for work before it yields its core, unless the user has set it.
///
/// OpenMP's default is 300,000 times, some ten milliseconds: if another process has the other core, every operation of a
/// pass waits that long. A thread that sleeps takes tens of microseconds to wake on a virtual machine, as long as the work between
/// two operations of a training step: measured there (two cores, Xeon), twenty steps of 135M parameters take 16.7 s with
/// 1000 times, 13.1 with 4000 and 12.5 with 10,000, and beside a busy process 28, 35 and 45 s.
const SPINS: &str = "4000";

/// Re-executes this program with bounded polling of libtorch's threads: OpenMP reads its variables when it is loaded, before
/// `main`. Returns if the user has set them (`OMP_WAIT_POLICY` or `GOMP_SPINCOUNT`), or if the program cannot be executed
/// again.
pub fn bound_waiting() {
    const CHOICES: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];
    if CHOICES.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        let mut arguments = std::env::args_os();
        let mut again = std::process::Command::new("/proc/self/exe");
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        // Only a failure returns; then OpenMP's default applies.
        let _ = again.args(arguments).env(CHOICES[0], SPINS).exec();
    }
}

/// Lets matrix products on CUDA devices round their factors to TF32. libtorch reads this once: call it before using libtorch
/// or starting another thread.
pub fn allow_tf32() {
    // SAFETY: no other thread runs yet that could read the environment.
    unsafe { std::env::set_var("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1") };
}

/// Bytes up to which allocations are served from freed memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: libc::c_int = 1 << 30;

/// Freed memory is not given back before the end: work that frees more than any bound on what is kept, and takes it again, would
/// touch it for the first time each time (half of the time, where gradients of wide networks in double precision come and go).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const NEVER: libc::c_int = -1;

/// Sets the number of threads of libtorch's CPU kernels; `None` keeps libtorch's default, all cores.
///
/// # Errors
/// [`Error::Setting`] for zero threads; [`Error::Memory`] if a limit on the process's memory leaves no room for their
/// stacks.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    if threads == Some(0) {
        return Err(Error::setting(Field::Threads, 0, "1 or more"));
    }
    check_room(threads.unwrap_or_else(self::threads))?;
    if let Some(threads) = threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        faer::set_global_parallelism(if threads > 1 { faer::Par::rayon(threads) } else { faer::Par::Seq });
    }
    Ok(())
}

/// Number of threads of libtorch's CPU kernels, for this thread.
pub(crate) fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// Fails if the remaining address space cannot hold the threads' stacks. libtorch does not check whether its threads could
/// be started, and would wait for them forever.
fn check_room(threads: usize) -> Result<()> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// In addition to the stacks: memory for the first small tensors.
        const REST: u64 = 32 << 20;
        let Some(most) = address_space() else { return Ok(()) };
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let pages: Option<u64> = pages.and_then(|text| text.split_whitespace().next()?.parse().ok());
        // SAFETY: asks for a constant of the system.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let used = pages.unwrap_or(0) * page;
        // libtorch has two pools of threads.
        let needed = 2 * threads as u64 * limit(libc::RLIMIT_STACK).unwrap_or(8 << 20) + REST;
        if used + needed > most {
            return Err(Error::Memory {
                what: format!(
                    "out of memory: starting {threads} thread(s) under a limit of {} MB (ulimit -v)",
                    most >> 20
                ),
                needed,
                free: most.saturating_sub(used),
                advice: format!("raise the limit, or use fewer {}", Field::Threads),
            });
        }
    }
    Ok(())
}

/// Bytes of address space that the process may take (`ulimit -v`); `None` without a limit.
pub(crate) fn address_space() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    return limit(libc::RLIMIT_AS);
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

/// A limit on one of the process's resources, if there is one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut found = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure is this function's own, and is written whole or not at all.
    unsafe { libc::getrlimit(resource, &raw mut found) };
    (found.rlim_cur != libc::RLIM_INFINITY).then_some(found.rlim_cur)
}

/// Kind of a device, for digests of results: processes that share a job use different GPUs, but their results are
/// interchangeable.
pub fn device_kind(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Mps => "mps",
        Device::Vulkan => "vulkan",
    }
}

/// Name of a device in reports.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Cuda(i) => format!("cuda:{i}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
