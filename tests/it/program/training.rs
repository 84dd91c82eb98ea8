//! Training as a program, against the network and against kernel descent.

use super::*;

fn input(name: &str, entries: &[f64]) -> Input {
    Input { name: name.into(), entries: entries.to_vec() }
}

/// Three inputs of three entries.
fn inputs() -> [Input; 3] {
    [input("a", &[1.0, 0.5, -0.3]), input("b", &[-0.2, 1.4, 0.8]), input("c", &[0.7, -0.4, 1.1])]
}

const RATE: f64 = 0.3;
const STEPS: usize = 4;

/// Gradient of one output.
fn gradient(parameters: &Parameters, examples: &dyn Examples, i: usize) -> Vec<Tensor> {
    let leaves = parameters.map(|v| v.detach().set_requires_grad(true));
    let f = examples.forward(&mut PlainTap::new(&leaves), &[i]).sum(Kind::Double);
    Tensor::run_backward(&[f], leaves.values(), false, false)
}

/// At a finite width a training program is the network: the same weights, trained by autograd, give the same outputs.
#[test]
fn a_training_program_is_the_network() {
    one_thread();
    let (inputs, width, phi) = (inputs(), 50, Activation::Tanh);
    let flat: Vec<f64> = inputs.iter().flat_map(|x| x.entries.clone()).collect();
    let flat = Tensor::from_slice(&flat).view([3, 3]);
    for (regime, update, abc) in [
        (Regime::NeuralTangent, Update::Sgd, Abc::ntk as fn(usize) -> Abc),
        (Regime::NeuralTangent, Update::Sign, Abc::ntk_sign),
        (Regime::MaximalUpdate, Update::Sgd, Abc::mup),
        (Regime::MaximalUpdate, Update::Sign, Abc::mup_sign),
    ] {
        for depth in 1..=3 {
            let mut training = Training::new(Network { dimension: 3, depth, activation: phi, regime, update });
            let (columns, matrices, readout) = training.weights();
            let (columns, matrices) = (columns.to_vec(), matrices.to_vec());
            for step in 0..STEPS {
                training.step(&[&inputs[step % 2]], RATE, |_, f| f - 1.0);
            }
            let scalars = inputs.each_ref().map(|x| training.output(x));
            let program = training.finish().unwrap();
            let run = program.run(width, 7, Device::Cpu).unwrap();

            let centred = regime == Regime::NeuralTangent;
            // Weights drawn as in the parametrization: vectors with entries of order one are √n times muP's.
            let root = (width as f64).sqrt();
            let (vector, matrix) = if centred { (1.0, root) } else { (1.0 / root, 1.0) };
            let columns: Vec<&Tensor> = columns.iter().map(|c| run.vector(*c)).collect();
            let mut values = vec![Tensor::stack(&columns, 1) * vector];
            values.extend(matrices.iter().map(|m| run.matrix(*m) * matrix));
            values.push(run.vector(readout).view([1, -1]) * vector);
            let mlp =
                Mlp { input: 3, width: width as i64, depth, outputs: 1, activation: phi, gain: 1.0, abc: abc(depth) };
            let mut parameters = Parameters::new(mlp.specs(), values);
            let examples = mlp.examples(flat.shallow_clone());
            let start = outputs(&parameters, &examples, 3) * f64::from(u8::from(centred));
            let rates = mlp.learning_rates(RATE);
            for step in 0..STEPS {
                let f = outputs(&parameters, &examples, 3) - &start;
                let chi = f.double_value(&[step as i64 % 2, 0]) - 1.0;
                let gradients = gradient(&parameters, &examples, step % 2);
                let mut layers = gradients.into_iter().zip(&rates);
                parameters = parameters.map(|w| {
                    let (g, rate) = layers.next().expect("one gradient per weight");
                    let update = if update == Update::Sgd { g * chi } else { g.sign() * chi.signum() };
                    w - update * *rate
                });
            }
            let f = outputs(&parameters, &examples, 3) - &start;
            for (i, scalar) in scalars.into_iter().enumerate() {
                let (program, network) = (run.scalar(scalar), f.double_value(&[i as i64, 0]));
                assert!((program - network).abs() < 1e-10, "{regime:?} {update:?}, depth {depth}: {program} {network}");
            }
        }
    }
}

/// In NTK parametrization the limit of training is gradient descent with the closed tangent kernel, within 3.5 standard
/// errors.
#[test]
fn the_limit_of_training_is_kernel_descent() {
    one_thread();
    let inputs = inputs();
    let phi = Activation::Erf;
    let network =
        Network { dimension: 3, depth: 2, activation: phi, regime: Regime::NeuralTangent, update: Update::Sgd };
    let mut training = Training::new(network);
    for step in 0..STEPS {
        training.step(&[&inputs[step % 2]], RATE, |_, f| f - 1.0);
    }
    let scalars = inputs.each_ref().map(|x| training.output(x));
    let program = training.finish().unwrap();
    let limit = program.limit(&LimitOptions { replicas: 32, ..LimitOptions::new(320_000, 4) }).unwrap();
    let rows = DMatrix::from_fn(3, 3, |i, k| inputs[i].entries[k]);
    let kernel = limit_kernels(&rows, 2, phi, 1.0).ntk;
    let mut f = nalgebra::DVector::<f64>::zeros(3);
    for step in 0..STEPS {
        let example = step % 2;
        let chi = f[example] - 1.0;
        f -= kernel.column(example) * (RATE * chi);
    }
    for (i, scalar) in scalars.into_iter().enumerate() {
        let off = deviation(&limit, scalar, f[i]);
        println!("{}: {} against {}, {off:.2} standard errors", inputs[i].name, limit.scalar(scalar), f[i]);
        assert!(off < 3.5 && limit.standard_error(scalar) < 0.002);
    }
}

/// A new readout has the size of the old one, but nothing of what that had learned: networks of width 512 and the limit agree,
/// within five standard errors of 30 networks and 10/n.
#[test]
fn a_new_readout_forgets() {
    one_thread();
    let inputs = inputs();
    let regime = Regime::MaximalUpdate;
    let mut training =
        Training::new(Network { dimension: 3, depth: 2, activation: Activation::Tanh, regime, update: Update::Sgd });
    for step in 0..STEPS {
        training.step(&[&inputs[step % 2]], RATE, |_, f| f - 1.0);
    }
    let trained = training.output(&inputs[0]);
    training.replace_readout();
    let gradient = training.gradient(&inputs[0]);
    let kernel = training.kernel("K", &gradient, &gradient);
    let forgotten = gradient.output;
    training.step(&[&inputs[0]], RATE, |_, f| f - 1.0);
    let again = training.output(&inputs[0]);
    let program = training.finish().unwrap();
    let limit = program.limit(&LimitOptions::new(64_000, 8)).unwrap();
    assert!(limit.scalar(trained) > 0.3 && deviation(&limit, forgotten, 0.0) < 5.0);
    let (networks, width) = (30, 512);
    let runs: Vec<_> = (0..networks).map(|seed| program.run(width, seed, Device::Cpu).unwrap()).collect();
    for scalar in [trained, forgotten, kernel, again] {
        let values: Vec<f64> = runs.iter().map(|r| r.scalar(scalar)).collect();
        let finite = kernelview::stats::student_mean(&values, 0.95);
        let error = finite.standard_error.unwrap().hypot(limit.standard_error(scalar));
        let off = (finite.value - limit.scalar(scalar)).abs();
        assert!(off < 5.0 * error + 10.0 / width as f64, "{}: {off}", program.name(scalar));
    }
}
