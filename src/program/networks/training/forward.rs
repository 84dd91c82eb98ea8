//! Forward passes: with the initial weights once per input, and with those that have moved once per input and step.

use super::{Input, Movement, Pass, Regime, Start, Training};
use crate::program::{Expression, Term, Vector};

impl Training {
    fn start(&mut self, input: &Input) -> Start {
        if let Some(start) = self.starts.get(&input.name) {
            assert_eq!(start.entries, input.entries, "two inputs with the name {}", input.name);
            return start.clone();
        }
        assert_eq!(input.entries.len(), self.network.dimension, "entries of the input {}", input.name);
        let root = (self.network.dimension as f64).sqrt();
        let first = self.columns.iter().zip(&input.entries).filter(|(_, x)| **x != 0.0).map(|(u, x)| *u * (x / root));
        let mut start = Start { entries: input.entries.clone(), hidden: vec![], active: vec![] };
        let first: Expression = first.sum();
        start.hidden.push(self.builder.map(format!("h1({})", input.name), first));
        for l in 0..self.network.depth {
            let active = start.hidden[l].activation(self.network.activation);
            start.active.push(self.builder.map(format!("x{}({})", l + 1, input.name), active));
            if l + 1 < self.network.depth {
                let name = format!("h{}({})", l + 2, input.name);
                start.hidden.push(self.builder.multiply(name, self.matrices[l], start.active[l]));
            }
        }
        self.starts.insert(input.name.clone(), start.clone());
        start
    }

    pub(super) fn pass(&mut self, input: &Input) -> Pass {
        let start = self.start(input);
        let key = (self.moment, input.name.clone());
        if let Some(pass) = self.passes.get(&key) {
            return pass.clone();
        }
        let label = format!("{}({})", self.moment, input.name);
        let (hidden, active, change) = if self.movements.is_empty() {
            (start.hidden.iter().map(|h| (*h).into()).collect(), start.active, None)
        } else {
            self.moved(&start, input, &label)
        };
        let last = active[self.network.depth - 1];
        let name = format!("f{label}");
        let output = match (self.network.regime, self.readout_change, change) {
            (Regime::MaximalUpdate, None, _) => self.builder.average(name, self.readout * last),
            (Regime::MaximalUpdate, Some(learned), _) => self.builder.average(name, (self.readout + learned) * last),
            (Regime::NeuralTangent, Some(learned), Some(change)) => {
                self.builder.average(name, learned * last + self.readout * change)
            }
            (Regime::NeuralTangent, ..) => self.builder.scalar(name, 0.0),
        };
        let pass = Pass { hidden, active, output };
        self.passes.insert(key, pass.clone());
        pass
    }

    /// Pre-activations, activations and δx^L of weights that have moved.
    fn moved(&mut self, start: &Start, input: &Input, label: &str) -> (Vec<Expression>, Vec<Vector>, Option<Vector>) {
        let phi = self.network.activation;
        let (mut hidden, mut active, mut change) = (Vec::new(), Vec::new(), None);
        for l in 0..self.network.depth {
            let by = match change {
                None => {
                    let first = |m: &Movement| {
                        m.coefficient * self.input_product(&m.direction, &input.entries) * m.direction.errors[0]
                    };
                    self.movements.iter().map(first).sum::<Expression>()
                }
                Some(below) => {
                    let name = format!("W{} δx{l} {label}", l + 1);
                    let carried = self.builder.multiply(name, self.matrices[l - 1], below);
                    let learned =
                        self.learned(&format!("x{l}"), label, active[l - 1], |m| (m.active[l - 1], m.errors[l]));
                    learned.map_or(carried.into(), |learned| carried + learned)
                }
            };
            let by = self.builder.map(format!("δh{} {label}", l + 1), by);
            let after = start.hidden[l] + self.in_units(by.into());
            active.push(self.builder.map(format!("x{} {label}", l + 1), after.clone().activation(phi)));
            let moved = match self.theta {
                Some(theta) => start.hidden[l].change(phi, by, theta),
                None => active[l] - start.active[l],
            };
            change = Some(self.builder.map(format!("δx{} {label}", l + 1), moved));
            hidden.push(after);
        }
        (hidden, active, change)
    }
}
