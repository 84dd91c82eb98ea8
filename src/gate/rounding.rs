//! How much rounding may move a figure that weights and prompts determine.
//!
//! On one machine with one number of threads two runs give the same bytes. Another machine, another number of threads or
//! a GPU adds in another order. The figures here are several times what the engines were found to differ by (README,
//! "How far to trust it"), and hundreds of times less than the changes that the gate is for.

/// Element types and precision of an analysis, as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rounding {
    /// Sums of gradient products and of their absolute values, relative.
    pub smooth: f64,
    /// Sums of products with signs, relative: entries of a gradient near zero change their sign.
    pub signs: f64,
    /// Losses and distances after training, relative: rounding grows along a run.
    pub trained: f64,
}

impl Rounding {
    /// Of an element type (`f32`, `f64`) and a precision of gradient products, if another one was asked for.
    pub(super) fn of(dtype: &str, precision: Option<&str>) -> Self {
        // Engines agree to 1e-10 and equal signs in double precision; to 1e-5 and 2e-3 in single precision.
        let base = if dtype == "f64" {
            Self { smooth: 1e-9, signs: 1e-6, trained: 1e-6 }
        } else {
            Self { smooth: 1e-4, signs: 5e-3, trained: 1e-3 }
        };
        // A factor of half the precision's last place: what one product can move by when its inputs do.
        let products = match precision {
            Some("bf16") => 4e-3,
            Some("tf32") => 5e-4,
            _ => 0.0,
        };
        Self { smooth: base.smooth.max(products), signs: base.signs.max(products), ..base }
    }
}
