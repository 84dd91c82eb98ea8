//! Expressions, which a program evaluates elementwise on vectors, or on scalars. Knows no program: vectors and scalars are
//! indices into lists of values, and the caller supplies their names.

use std::ops::{Add, Div, Mul, Neg, Sub};

use tch::Tensor;

use crate::network::Activation;

/// A vector of a program: a handle from its builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    pub(super) program: u64,
    pub(super) slot: usize,
}

/// A random matrix of a program: a handle from its builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub(super) program: u64,
    pub(super) slot: usize,
}

/// A scalar of a program: a handle from its builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar {
    pub(super) program: u64,
    pub(super) slot: usize,
}

/// A function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// A nonlinearity φ.
    Value(Activation),
    /// Its derivative φ'.
    Derivative(Activation),
    /// -1, 0 or 1.
    Sign,
    /// The exponential function.
    Exp,
    /// The square root.
    Sqrt,
}

/// A formula over vectors, scalars and numbers. Handles are combined to expressions by `+`, `-`, `*`, `/` and the functions
/// of [`Term`].
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A number.
    Number(f64),
    /// A vector, elementwise.
    Vector(Vector),
    /// A scalar, the same for every entry.
    Scalar(Scalar),
    /// A sum.
    Sum(Box<Expression>, Box<Expression>),
    /// A difference.
    Difference(Box<Expression>, Box<Expression>),
    /// A product.
    Product(Box<Expression>, Box<Expression>),
    /// A quotient.
    Quotient(Box<Expression>, Box<Expression>),
    /// A function of an expression.
    Apply(Function, Box<Expression>),
    /// `(φ(at + θ by) - φ(at)) / θ`, and `φ'(at) by` for θ = 0.
    Change {
        /// The nonlinearity φ.
        phi: Activation,
        /// The argument.
        at: Box<Expression>,
        /// The change, in units of θ.
        by: Box<Expression>,
        /// θ, of scalars and numbers.
        theta: Box<Expression>,
    },
}

/// Common to vectors, scalars and expressions: functions of them are expressions.
pub trait Term: Into<Expression> + Sized {
    /// φ of this.
    fn activation(self, phi: Activation) -> Expression {
        self.apply(Function::Value(phi))
    }

    /// φ' of this.
    fn derivative(self, phi: Activation) -> Expression {
        self.apply(Function::Derivative(phi))
    }

    /// The sign of this: -1, 0 or 1.
    fn sign(self) -> Expression {
        self.apply(Function::Sign)
    }

    /// The exponential function of this.
    fn exp(self) -> Expression {
        self.apply(Function::Exp)
    }

    /// The square root of this.
    fn sqrt(self) -> Expression {
        self.apply(Function::Sqrt)
    }

    /// A function of this.
    fn apply(self, function: Function) -> Expression {
        Expression::Apply(function, Box::new(self.into()))
    }

    /// `(φ(this + θ by) - φ(this)) / θ`, and its limit `φ'(this) by` for θ = 0: the change of activations in NTK
    /// parametrization, where pre-activations move by θ = n^-1/2.
    fn change(self, phi: Activation, by: impl Into<Expression>, theta: impl Into<Expression>) -> Expression {
        let (at, by, theta) = (Box::new(self.into()), Box::new(by.into()), Box::new(theta.into()));
        Expression::Change { phi, at, by, theta }
    }
}

impl<T: Into<Expression>> Term for T {}

impl From<f64> for Expression {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Vector> for Expression {
    fn from(vector: Vector) -> Self {
        Self::Vector(vector)
    }
}

impl From<Scalar> for Expression {
    fn from(scalar: Scalar) -> Self {
        Self::Scalar(scalar)
    }
}

macro_rules! operators {
    ($($left:ty),*) => {
        $(operators!(@one $left, Add, add, Sum);
        operators!(@one $left, Sub, sub, Difference);
        operators!(@one $left, Mul, mul, Product);
        operators!(@one $left, Div, div, Quotient);

        impl Neg for $left {
            type Output = Expression;

            fn neg(self) -> Expression {
                Expression::Number(-1.0) * self
            }
        })*
    };
    (@one $left:ty, $operator:ident, $method:ident, $variant:ident) => {
        impl<R: Into<Expression>> $operator<R> for $left {
            type Output = Expression;

            fn $method(self, right: R) -> Expression {
                Expression::$variant(Box::new(self.into()), Box::new(right.into()))
            }
        }
    };
}

operators!(Expression, Vector, Scalar);

/// A sum of expressions; 0 if there are none.
impl std::iter::Sum for Expression {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.reduce(|a, b| a + b).unwrap_or(Self::Number(0.0))
    }
}

/// The value of an expression: a number if it has no vector, otherwise one number per entry.
pub(super) enum Value {
    Number(f64),
    Entries(Tensor),
}

impl Expression {
    /// Calls `visit` with every vector and scalar, from left to right.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(Leaf)) {
        match self {
            Self::Number(_) => {}
            Self::Vector(v) => visit(Leaf::Vector(*v)),
            Self::Scalar(s) => visit(Leaf::Scalar(*s)),
            Self::Sum(a, b) | Self::Difference(a, b) | Self::Product(a, b) | Self::Quotient(a, b) => {
                a.visit(visit);
                b.visit(visit);
            }
            Self::Apply(_, a) => a.visit(visit),
            Self::Change { at, by, theta, .. } => {
                at.visit(visit);
                by.visit(visit);
                theta.visit(visit);
                if theta.has_vectors() {
                    visit(Leaf::VectorInTheta);
                }
            }
        }
    }

    /// Whether it contains a vector.
    pub(super) fn has_vectors(&self) -> bool {
        let mut any = false;
        self.visit(&mut |leaf| any |= matches!(leaf, Leaf::Vector(_)));
        any
    }

    /// Its value, given those of all vectors (1-dimensional, of one length) and scalars by slot.
    pub(super) fn evaluate(&self, vectors: &[Tensor], scalars: &[f64]) -> Value {
        let of = |e: &Self| e.evaluate(vectors, scalars);
        match self {
            Self::Number(x) => Value::Number(*x),
            Self::Vector(v) => Value::Entries(vectors[v.slot].shallow_clone()),
            Self::Scalar(s) => Value::Number(scalars[s.slot]),
            Self::Sum(a, b) => of(a).join(of(b), |a, b| a + b, |t, x| t + x, |x, t| t + x, |a, b| a + b),
            Self::Difference(a, b) => of(a).join(of(b), |a, b| a - b, |t, x| t - x, |x, t| -(t - x), |a, b| a - b),
            Self::Product(a, b) => of(a).join(of(b), |a, b| a * b, |t, x| t * x, |x, t| t * x, |a, b| a * b),
            Self::Quotient(a, b) => {
                of(a).join(of(b), |a, b| a / b, |t, x| t / x, |x, t| t.reciprocal() * x, |a, b| a / b)
            }
            Self::Apply(function, a) => of(a).map(|x| function.value(x), |t| function.entries(t)),
            Self::Change { phi, at, by, theta } => match of(theta) {
                Value::Number(0.0) => (Self::clone(at).derivative(*phi) * Self::clone(by)).evaluate(vectors, scalars),
                Value::Number(theta) => {
                    let (start, end) = (Self::clone(at), Self::clone(at) + Self::clone(by) * theta);
                    ((end.activation(*phi) - start.activation(*phi)) / theta).evaluate(vectors, scalars)
                }
                Value::Entries(_) => unreachable!("a checked program has no vector in θ"),
            },
        }
    }

    /// The formula as text; `name` gives the names of vectors and scalars.
    pub(super) fn text(&self, name: &dyn Fn(Leaf) -> String) -> String {
        self.bound(0, name)
    }

    /// The formula as text, in parentheses if it binds less strongly than `strength`: 0 for sums, 1 after a minus, 2 for
    /// products, 3 after a division.
    fn bound(&self, strength: u8, name: &dyn Fn(Leaf) -> String) -> String {
        let (own, text) = match self {
            Self::Number(x) => return if *x < 0.0 && strength > 0 { format!("({})", digits(*x)) } else { digits(*x) },
            Self::Vector(v) => return name(Leaf::Vector(*v)),
            Self::Scalar(s) => return name(Leaf::Scalar(*s)),
            Self::Sum(a, b) => (0, format!("{} + {}", a.bound(0, name), b.bound(0, name))),
            Self::Difference(a, b) => (0, format!("{} - {}", a.bound(0, name), b.bound(1, name))),
            Self::Product(a, b) => match (&**a, &**b) {
                (Self::Number(-1.0), b) => (0, format!("-{}", b.bound(2, name))),
                // Numbers first, as formulas are written.
                (a, Self::Number(x)) if !matches!(a, Self::Number(_)) => {
                    (2, format!("{} {}", Self::Number(*x).bound(2, name), a.bound(2, name)))
                }
                (a, b) => (2, format!("{} {}", a.bound(2, name), b.bound(2, name))),
            },
            Self::Quotient(a, b) => (2, format!("{} / {}", a.bound(2, name), b.bound(3, name))),
            Self::Apply(function, a) => return format!("{}({})", function.name(), a.bound(0, name)),
            Self::Change { phi, at, by, theta } => {
                let part = |e: &Self| e.bound(0, name);
                return format!("change of {phi}({}) by {} in units of {}", part(at), by.bound(2, name), part(theta));
            }
        };
        if own < strength { format!("({text})") } else { text }
    }
}

/// A number to six digits.
pub(super) fn digits(x: f64) -> String {
    let rounded: f64 = format!("{x:.5e}").parse().expect("a number that was just written");
    rounded.to_string()
}

/// A reference in an expression.
#[derive(Clone, Copy)]
pub(super) enum Leaf {
    Vector(Vector),
    Scalar(Scalar),
    /// The θ of a change contains a vector, which is an error.
    VectorInTheta,
}

impl Value {
    /// Combines two values: two numbers, entries with a number on either side, entries with entries.
    fn join(
        self,
        other: Self,
        numbers: impl Fn(f64, f64) -> f64,
        right: impl Fn(Tensor, f64) -> Tensor,
        left: impl Fn(f64, Tensor) -> Tensor,
        entries: impl Fn(Tensor, Tensor) -> Tensor,
    ) -> Self {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => Self::Number(numbers(a, b)),
            (Self::Entries(a), Self::Number(b)) => Self::Entries(right(a, b)),
            (Self::Number(a), Self::Entries(b)) => Self::Entries(left(a, b)),
            (Self::Entries(a), Self::Entries(b)) => Self::Entries(entries(a, b)),
        }
    }

    fn map(self, number: impl Fn(f64) -> f64, entries: impl Fn(&Tensor) -> Tensor) -> Self {
        match self {
            Self::Number(x) => Self::Number(number(x)),
            Self::Entries(t) => Self::Entries(entries(&t)),
        }
    }
}

impl Function {
    fn value(self, x: f64) -> f64 {
        match self {
            Self::Value(phi) => phi.value(x),
            Self::Derivative(phi) => phi.derivative(x),
            // f64::signum has no zero.
            Self::Sign => f64::from(i8::from(x > 0.0) - i8::from(x < 0.0)),
            Self::Exp => x.exp(),
            Self::Sqrt => x.sqrt(),
        }
    }

    fn entries(self, t: &Tensor) -> Tensor {
        match self {
            Self::Value(phi) => phi.apply(t),
            Self::Derivative(phi) => phi.apply_derivative(t),
            Self::Sign => t.sign(),
            Self::Exp => t.exp(),
            Self::Sqrt => t.sqrt(),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Value(phi) => phi.name().into(),
            Self::Derivative(phi) => format!("{phi}'"),
            Self::Sign => "sign".into(),
            Self::Exp => "exp".into(),
            Self::Sqrt => "√".into(),
        }
    }
}
