//! Kernels of your own network: written once over the tap, it works with every engine and formula. `cargo run --example
//! network_of_ones_own`.

use kernelview::error::Result;
use kernelview::jacobian::{Examples, Frozen, Param, ParameterSpec, Parameters, Role, Tap};
use kernelview::kernel::{Formula, FormulaSet, GramOptions, reference_gram, structured_gram};
use kernelview::network::normal_tensor;
use kernelview::progress::Silent;
use kernelview::tch::{Device, Kind, Tensor};

/// A gated network of two layers: `f(x) = v · (tanh(W x) ∘ σ(U x))`.
struct Gated {
    inputs: Frozen,
}

const W: Param = Param(0);
const U: Param = Param(1);
const V: Param = Param(2);

impl Examples for Gated {
    fn len(&self) -> usize {
        self.inputs.size()[0] as usize
    }

    fn outputs(&self) -> usize {
        1
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let rows: Vec<i64> = indices.iter().map(|i| *i as i64).collect();
        let x = self.inputs.index_select(0, &Tensor::from_slice(&rows));
        let gated = tap.linear(&x, W, None).tanh() * tap.linear(&x, U, None).sigmoid();
        tap.linear(&gated, V, None)
    }
}

fn main() -> Result<()> {
    let shapes = [("W", [16, 5]), ("U", [16, 5]), ("V", [1, 16])];
    let specs = shapes.map(|(name, shape)| ParameterSpec::new(name, &shape, Role::Body, name));
    let values = (0..).zip(&shapes).map(|(stream, (_, shape))| draw(shape, stream)).collect();
    let parameters = Parameters::new(specs.to_vec().into(), values);
    let examples = Gated { inputs: draw(&[6, 5], 3).into() };

    let options = GramOptions::new(FormulaSet::ALL, parameters.len());
    let fast = structured_gram(&parameters, &examples, None, &options, &Silent)?;
    let slow = reference_gram(&parameters, &examples, None, FormulaSet::ALL, &[true; 3])?;
    for formula in Formula::ALL {
        let (fast, slow) = (fast.matrix(formula).expect("asked for"), slow.matrix(formula).expect("asked for"));
        let error = (fast - slow).abs().max().double_value(&[]) / slow.abs().max().double_value(&[]);
        println!("{}: both engines agree to {error:.0e}", formula.title());
        assert!(error < 1e-12);
    }
    Ok(())
}

/// Numbers drawn from N(0, 1/4) with a named seed.
fn draw(shape: &[i64], stream: u64) -> Tensor {
    normal_tensor(shape, 0.5, 7, stream, Kind::Double, Device::Cpu)
}
