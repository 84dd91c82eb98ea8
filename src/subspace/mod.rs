//! Fine-tuning in a subspace: low-rank adapters and random projections of all parameters.
//!
//! Both keep the pre-trained parameters θ_0 and train a few new ones that enter θ linearly at initialization, so that
//! the new kernel is a compressed K_SGD. An adapted network is again [`Examples`](crate::jacobian::Examples) with
//! [`Parameters`](crate::jacobian::Parameters): kernel engines, optimizers and measures work on it unchanged. Knows no
//! language model and no claim.

mod adapted;
mod adapter;
mod bound;
mod lora;
mod projection;
mod streamed;

pub use adapted::Adapted;
pub use adapter::{Adapter, Use};
pub use bound::{markov_rank, union_bound, union_rank};
pub use lora::{Init, Lora, Placement, Target, Trained};
pub use projection::Projection;
pub use streamed::{Streaming, projected_gradients};
