//! The three kernel formulas and sets of them.

use std::fmt;

/// A kernel formula of the paper's Definition 3.3, between gradients ∇f of outputs at fixed parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Formula {
    /// `<∇f, ∇f'>`, the kernel analog of SGD.
    Sgd,
    /// `<∇f, sign ∇f'>`, the kernel analog of SignGD (early Adam); not symmetric.
    Asymmetric,
    /// `<sign ∇f, sign ∇f'>`, a symmetric substitute for it.
    Signgd,
}

impl Formula {
    /// All formulas, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Sgd, Self::Signgd, Self::Asymmetric];

    /// Name in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Asymmetric => "asymmetric",
            Self::Signgd => "signgd",
        }
    }

    /// Name in the paper's notation.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sgd => "K(SGD)",
            Self::Asymmetric => "K(A-SignGD)",
            Self::Signgd => "K(SignGD)",
        }
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormulaSet {
    /// `<∇f, ∇f'>`
    pub sgd: bool,
    /// `<∇f, sign ∇f'>`, in both orientations
    pub asymmetric: bool,
    /// `<sign ∇f, sign ∇f'>`
    pub signgd: bool,
}

impl FormulaSet {
    /// All three.
    pub const ALL: Self = Self { sgd: true, asymmetric: true, signgd: true };
    /// Only the SGD kernel.
    pub const SGD: Self = Self { sgd: true, asymmetric: false, signgd: false };

    /// The set of these formulas.
    pub fn of(formulas: &[Formula]) -> Self {
        let has = |f| formulas.contains(&f);
        Self { sgd: has(Formula::Sgd), asymmetric: has(Formula::Asymmetric), signgd: has(Formula::Signgd) }
    }

    /// Whether the set contains a formula.
    pub fn contains(self, formula: Formula) -> bool {
        match formula {
            Formula::Sgd => self.sgd,
            Formula::Asymmetric => self.asymmetric,
            Formula::Signgd => self.signgd,
        }
    }
}
