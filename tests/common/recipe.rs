//! A recipe of tiny networks and a text for it.

use kernelview::task::cloze;

/// The built-in cloze sentences: enough text for a small vocabulary.
pub fn text() -> String {
    cloze::builtin().iter().map(cloze::BuiltinCloze::text).collect::<Vec<_>>().join("\n")
}

/// Two tiny widths, forty steps.
pub const RECIPE: &str = r#"
name = "small"
seed = 3

[corpus]
train = "text.txt"
heldout = "text.txt"
vocabulary = 600

[model]
widths = [16, 32]
base_width = 16
layers = 1
head_dimension = 8
tokens = 18
embedding_deviation = 0.1
position_amplitude = 0.1

[training]
steps = 40
batch = 8
masked = 4
learning_rate = 4e-3
warmup = 0.1
beta1 = 0.9
beta2 = 0.99
epsilon = 1e-12
evaluate_every = 5
heldout_sequences = 16

[checks]
coordinate_widths = [16, 32, 64]
coordinate_seeds = 2
learning_rates = [1e-3, 4e-3]
sweep_widths = [16, 32]
sweep_steps = 6
sweep_batch = 4
"#;
