//! Where the numbers live: device, element type, thread count. The only module that touches process-wide libtorch
//! state.

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
    /// libtorch's name of the type.
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

/// What the user asked to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// `cuda:0` where a CUDA libtorch finds a GPU, else the CPU.
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
                .ok_or_else(|| format!("`{s}` is none of auto, cpu, cuda, cuda:INDEX")),
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
    /// The device to use. Fails when a GPU is asked for by name and there is none.
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
                format!("cpu, or a libtorch built with CUDA (LIBTORCH): this one sees {count} CUDA device(s)"),
            )),
            // One process a GPU, where a launcher says which.
            _ if count > 0 => {
                let local = local_rank(&environment);
                Ok(Device::Cuda(local.map_or(0, |rank| rank % count)))
            }
            _ => Ok(Device::Cpu),
        }
    }
}

/// A CUDA libtorch registers its devices only when `libtorch_cuda.so` is loaded, and nothing in this program refers to
/// a symbol of it, so the linker drops it: load it by hand. A CPU-only libtorch has no such file and nothing happens.
fn load_cuda_backend() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the name is a NUL-terminated constant; loading runs libtorch's own initializers, as linking would.
        unsafe { libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    }
}

/// Prepares the process for large tensors that come and go: call it first in `main`, before any other thread.
///
/// A page that a process touches for the first time costs microseconds on virtual machines, and freed tensors give their
/// pages back at once. With huge pages for large tensors, and with freed memory kept for the next one, that cost goes
/// away.
///
/// All threads allocate from one arena: what a pass in one thread frees is there for the next pass in another one. (Arenas of
/// their own would also reserve 128 MB of address space for each thread; under a limit, a thread for which that fails
/// pays a system call and a fresh page for every allocation and seems to wait for ever.)
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
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// How often a libtorch thread looks for more work before it gives up its core, where the user has not said.
///
/// OpenMP's own choice is 300,000 times, some ten milliseconds: where another process has the other core, every operation of a pass
/// then waits that long. Work comes within microseconds or not soon.
const SPINS: &str = "1000";

/// Starts this program again, in the same process, with bounded waiting of libtorch's threads: OpenMP's library reads its
/// variables when it is loaded, before `main`. Returns where the user has chosen (`OMP_WAIT_POLICY` or `GOMP_SPINCOUNT`), and where
/// the program cannot be started again.
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
        // Only a failure comes back; then waiting is as OpenMP chose.
        let _ = again.args(arguments).env(CHOICES[0], SPINS).exec();
    }
}

/// Lets matrix products of CUDA devices round their factors to TF32. libtorch reads this once: call it before anything
/// that uses libtorch, and before any other thread.
pub fn allow_tf32() {
    // SAFETY: no other thread runs yet that could read the environment.
    unsafe { std::env::set_var("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1") };
}

/// Bytes up to which an allocation comes from memory that was used before, and up to which free memory is kept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: libc::c_int = 1 << 30;

/// Sets the number of threads of libtorch's CPU kernels; without one it stays what libtorch took, all cores.
///
/// # Errors
/// [`Error::Setting`] for no threads, [`Error::Memory`] where a limit on the process's memory leaves no room for theirs.
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

/// Fails where the address space that is left to the process cannot hold the threads' stacks. libtorch does not look
/// whether its threads could be started: it waits for them for ever.
fn check_room(threads: usize) -> Result<()> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Beside the stacks: what little the first tensors take.
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
                advice: format!("raise the limit, or give fewer {}", Field::Threads),
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

/// A limit on one of the process's resources, where there is one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut found = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure is this function's own, and is written whole or not at all.
    unsafe { libc::getrlimit(resource, &raw mut found) };
    (found.rlim_cur != libc::RLIM_INFINITY).then_some(found.rlim_cur)
}

/// Kind of a device, for digests of results: processes that share a job each take a GPU of their own, and results of one
/// are those of the other.
pub fn device_kind(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Mps => "mps",
        Device::Vulkan => "vulkan",
    }
}

/// Name of a device as the reports print it.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Cuda(i) => format!("cuda:{i}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
