//! Tensor programs.

mod common;

use common::one_thread;
use kernelview::network::limits::limit_kernels;
use kernelview::network::{Activation};
use kernelview::program::LimitOptions;
use kernelview::program::networks::*;
use nalgebra::DMatrix;
use tch::Device;

#[test]
fn try_perceptron() {
    one_thread();
    let inputs = DMatrix::from_row_slice(2, 3, &[1.0, 0.5, -0.3, -0.2, 1.4, 0.8]);
    for activation in [Activation::Relu, Activation::Erf, Activation::Tanh] {
    let k = perceptron_kernels(&inputs, 2, activation, 1.3).unwrap();
    if activation == Activation::Relu { println!("{}", k.program); }
    let t = std::time::Instant::now();
    let run = k.program.limit(&LimitOptions::new(100_000, 3)).unwrap();
    println!("limit {:?}", t.elapsed());
    let exact = limit_kernels(&inputs, 2, activation, 1.3);
    let t = std::time::Instant::now();
    let finite = k.program.run(1024, 5, Device::Cpu).unwrap();
    println!("finite {:?}", t.elapsed());
    for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for (name, s, e) in [("nngp", k.nngp[i][j], exact.nngp[(i, j)]), ("ntk", k.ntk[i][j], exact.ntk[(i, j)]),
            ("a1", k.layers[0].asymmetric[i][j], exact.per_layer[0].asymmetric[(i, j)]),
            ("a2", k.layers[1].asymmetric[i][j], exact.per_layer[1].asymmetric[(i, j)]),
            ("s1", k.layers[0].signgd[i][j], exact.per_layer[0].signgd[(i, j)]),
            ("s2", k.layers[1].signgd[i][j], exact.per_layer[1].signgd[(i, j)]),
            ("s3", k.layers[2].signgd[i][j], exact.per_layer[2].signgd[(i, j)]),
            ("a3", k.layers[2].asymmetric[i][j], exact.per_layer[2].asymmetric[(i, j)]),
        ] {
            println!("{name} {i}{j} {} ± {} exact {e} z {:.2} finite {}", run.scalar(s), run.standard_error(s), (run.scalar(s) - e) / run.standard_error(s), finite.scalar(s));
        }
    }
    }
}
