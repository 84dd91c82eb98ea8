//! Causal language models against a plain computation, token by token and head by head in double precision, and the
//! laws of causal attention.
//!
//! Tolerance: 1e-12 relative to the largest logit, for about thirty layers of rounding at 1e-16 in another order.

use std::collections::BTreeMap;

use crate::common::relative_error;
use kernelview::jacobian::{Examples, ParameterSpec, Parameters, outputs};
use kernelview::kernel::dense_jacobian;
use kernelview::lm::{
    Biases, CausalArchitecture, CausalConfig, CausalLm, OutputMode, PromptExample, PromptExamples, Roundings, random,
};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const VOCABULARY: i64 = 19;
const LABELS: [i64; 3] = [3, 11, 7];

/// A random network with random prompts.
#[derive(Clone, Debug)]
struct Case {
    config: CausalConfig,
    seed: u64,
    prompts: Vec<Vec<i64>>,
}

fn case() -> impl Strategy<Value = Case> {
    let architecture =
        prop_oneof![Just(CausalArchitecture::Gpt2), Just(CausalArchitecture::Llama), Just(CausalArchitecture::Qwen2)];
    let prompts = prop::collection::vec(prop::collection::vec(1..VOCABULARY, 1..9), 1..5);
    (architecture, any::<[bool; 3]>(), 0..3u32, 0..4i64, any::<u64>(), prompts).prop_map(
        |(architecture, [tied, biased, wide], groups, layers, seed, prompts)| {
            let mut config = random::tiny_causal(architecture, VOCABULARY);
            (config.tied_decoder, config.layers) = (tied, layers);
            if architecture != CausalArchitecture::Gpt2 {
                config.kv_heads = 4 >> groups;
                // Heads may together be wider than the residual stream, as `head_dim` allows.
                config.head_size = if wide { 6 } else { 4 };
            }
            if architecture == CausalArchitecture::Llama {
                config.biases = Biases { qkv: biased, output: biased, feed_forward: biased };
            }
            Case { config, seed, prompts }
        },
    )
}

impl Case {
    fn model(&self) -> (CausalLm, Parameters) {
        crate::common::one_thread();
        let model = CausalLm::new(self.config.clone());
        let parameters = random::parameters(&model, self.seed, 1.5, Kind::Double, Device::Cpu);
        (model, parameters)
    }
}

/// Prompts read at their last token.
fn examples<'a>(model: &'a CausalLm, prompts: &[Vec<i64>]) -> PromptExamples<'a> {
    let at = |ids: &Vec<i64>| ids.len() - 1;
    examples_at(model, prompts, at)
}

fn examples_at<'a>(model: &'a CausalLm, prompts: &[Vec<i64>], at: impl Fn(&Vec<i64>) -> usize) -> PromptExamples<'a> {
    let prompts = prompts.iter().map(|ids| PromptExample {
        input_ids: ids.clone(),
        segment_ids: vec![0; ids.len()],
        mask_position: at(ids),
    });
    PromptExamples::new(model, prompts.collect(), &LABELS, OutputMode::Logits, Device::Cpu)
        .expect("valid prompts")
        .rounded(Roundings::None)
}

type Row = Vec<f64>;

/// The weights as numbers, by the names of checkpoints.
struct Plain<'a> {
    config: &'a CausalConfig,
    weights: BTreeMap<String, (Vec<i64>, Row)>,
}

impl<'a> Plain<'a> {
    fn new(config: &'a CausalConfig, parameters: &Parameters) -> Self {
        let numbers = |t: &Tensor| Vec::<f64>::try_from(t.reshape([-1])).expect("doubles");
        let named = parameters.specs().iter().zip(parameters.values());
        let weights = named.map(|(s, t)| (s.name.clone(), (s.shape.clone(), numbers(t)))).collect();
        Self { config, weights }
    }

    fn row(&self, name: &str, at: i64) -> Row {
        let (shape, numbers) = &self.weights[name];
        let width = shape[1] as usize;
        numbers[at as usize * width..][..width].to_vec()
    }

    fn vector(&self, name: &str) -> Option<&Row> {
        self.weights.get(name).map(|(_, numbers)| numbers)
    }

    fn linear(&self, name: &str, x: &[f64]) -> Row {
        let rows = self.weights[&format!("{name}.weight")].0[0];
        let bias = self.vector(&format!("{name}.bias"));
        (0..rows)
            .map(|r| {
                let weight = self.row(&format!("{name}.weight"), r);
                weight.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias.map_or(0.0, |b| b[r as usize])
            })
            .collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Row {
        let n = x.len() as f64;
        let weight = self.vector(&format!("{name}.weight")).expect("a norm");
        let eps = self.config.norm_eps;
        if let Some(bias) = self.vector(&format!("{name}.bias")) {
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let entry = |(i, x): (usize, &f64)| (x - mean) / (variance + eps).sqrt() * weight[i] + bias[i];
            return x.iter().enumerate().map(entry).collect();
        }
        let square = x.iter().map(|x| x * x).sum::<f64>() / n;
        x.iter().zip(weight).map(|(x, w)| x / (square + eps).sqrt() * w).collect()
    }

    /// Pairs (k, k + d/2), rotated by `t θ^(-2k/d)`.
    fn turned(&self, head: &[f64], t: usize) -> Row {
        let d = head.len();
        let mut out = head.to_vec();
        for k in 0..d / 2 {
            let angle = t as f64 / self.config.rope_theta.powf(2.0 * k as f64 / d as f64);
            let (sine, cosine) = angle.sin_cos();
            out[k] = head[k] * cosine - head[k + d / 2] * sine;
            out[k + d / 2] = head[k + d / 2] * cosine + head[k] * sine;
        }
        out
    }

    /// Queries, keys and values of a token, one head after another.
    fn projections(&self, layer: i64, x: &[f64], t: usize) -> [Row; 3] {
        let (heads, d) = (self.config.heads as usize, self.config.head_size as usize);
        if self.config.architecture == CausalArchitecture::Gpt2 {
            let all = self.linear(&format!("transformer.h.{layer}.attn.c_attn"), x);
            let part = |i: usize| all[i * heads * d..(i + 1) * heads * d].to_vec();
            return [part(0), part(1), part(2)];
        }
        let at = |name: &str| self.linear(&format!("model.layers.{layer}.self_attn.{name}_proj"), x);
        let turn = |y: Row| y.chunks(d).flat_map(|head| self.turned(head, t)).collect();
        [turn(at("q")), turn(at("k")), at("v")]
    }

    fn feed_forward(&self, layer: i64, x: &[f64]) -> Row {
        if self.config.architecture == CausalArchitecture::Gpt2 {
            let at = |name: &str| format!("transformer.h.{layer}.mlp.{name}");
            let gelu =
                |x: &f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
            let inner: Row = self.linear(&at("c_fc"), x).iter().map(gelu).collect();
            return self.linear(&at("c_proj"), &inner);
        }
        let at = |name: &str| format!("model.layers.{layer}.mlp.{name}_proj");
        let gate = self.linear(&at("gate"), x);
        let inner: Row = gate.iter().zip(self.linear(&at("up"), x)).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        self.linear(&at("down"), &inner)
    }

    /// Logits of the label words after a prompt.
    fn logits(&self, ids: &[i64]) -> Row {
        let gpt2 = self.config.architecture == CausalArchitecture::Gpt2;
        let table = if gpt2 { "transformer.wte.weight" } else { "model.embed_tokens.weight" };
        let add = |a: &Row, b: &Row| -> Row { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let mut states: Vec<Row> = ids.iter().map(|id| self.row(table, *id)).collect();
        if gpt2 {
            let place = |(t, x): (usize, &Row)| add(x, &self.row("transformer.wpe.weight", t as i64));
            states = states.iter().enumerate().map(place).collect();
        }
        let CausalConfig { heads, kv_heads, head_size, layers, .. } = *self.config;
        let (heads, group, d) = (heads as usize, (heads / kv_heads) as usize, head_size as usize);
        for layer in 0..layers {
            let prefix = if gpt2 { format!("transformer.h.{layer}.") } else { format!("model.layers.{layer}.") };
            let names = if gpt2 {
                ["ln_1", "attn.c_proj", "ln_2"]
            } else {
                ["input_layernorm", "self_attn.o_proj", "post_attention_layernorm"]
            };
            let [first, output, second] = names.map(|name| format!("{prefix}{name}"));
            let made = states.iter().enumerate().map(|(t, x)| self.projections(layer, &self.norm(&first, x), t));
            let made: Vec<[Row; 3]> = made.collect();
            for t in 0..ids.len() {
                let mut mixed = Vec::new();
                for h in 0..heads {
                    let query = &made[t][0][h * d..(h + 1) * d];
                    let shared = h / group * d;
                    let score = |s: usize| {
                        let key = &made[s][1][shared..shared + d];
                        query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt()
                    };
                    let weights: Row = (0..=t).map(|s| score(s).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    mixed.extend((0..d).map(|i| {
                        weights.iter().enumerate().map(|(s, w)| w * made[s][2][shared + i]).sum::<f64>() / total
                    }));
                }
                let x = add(&states[t], &self.linear(&output, &mixed));
                let inner = self.feed_forward(layer, &self.norm(&second, &x));
                states[t] = add(&x, &inner);
            }
        }
        let last = self.norm(if gpt2 { "transformer.ln_f" } else { "model.norm" }, states.last().expect("a token"));
        let decoder = if self.config.tied_decoder { table } else { "lm_head.weight" };
        let logit = |id: &i64| self.row(decoder, *id).iter().zip(&last).map(|(w, x)| w * x).sum();
        LABELS.iter().map(logit).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Everything at once: norms, rotation, groups of heads, the mask, the gate, both kinds of decoder, padding.
    #[test]
    fn logits_are_those_of_a_plain_computation(case in case()) {
        let (model, parameters) = case.model();
        let plain = Plain::new(&case.config, &parameters);
        let expected: Row = case.prompts.iter().flat_map(|ids| plain.logits(ids)).collect();
        let expected = Tensor::from_slice(&expected).view([-1, LABELS.len() as i64]);
        let found = outputs(&parameters, &examples(&model, &case.prompts), case.prompts.len());
        prop_assert!(relative_error(&found, &expected) <= 1e-12, "{}", relative_error(&found, &expected));
    }

    /// A batch of different lengths gives the results of each prompt alone.
    #[test]
    fn padding_changes_nothing(case in case()) {
        let (model, parameters) = case.model();
        let examples = examples(&model, &case.prompts);
        let together = outputs(&parameters, &examples, examples.len());
        let alone = outputs(&parameters, &examples, 1);
        prop_assert!(relative_error(&together, &alone) <= 1e-13);
    }

    /// Tokens after the one that is read have neither influence nor gradients: the result is that of the prompt cut there.
    #[test]
    fn later_tokens_do_not_influence(case in case(), more in prop::collection::vec(1..VOCABULARY, 1..5)) {
        let (model, parameters) = case.model();
        let longer: Vec<Vec<i64>> = case.prompts.iter().map(|ids| [ids.as_slice(), &more].concat()).collect();
        let at = |ids: &Vec<i64>| ids.len() - 1 - more.len();
        let (cut, whole) = (examples(&model, &case.prompts), examples_at(&model, &longer, at));
        let logits = |e: &PromptExamples<'_>| outputs(&parameters, e, e.len());
        prop_assert!(relative_error(&logits(&whole), &logits(&cut)) <= 1e-13);
        let jacobian = |e: &PromptExamples<'_>| dense_jacobian(&parameters, e).expect("not interrupted");
        prop_assert!(relative_error(&jacobian(&whole), &jacobian(&cut)) <= 1e-12);
        // The control: an earlier token does.
        if case.config.layers > 0 && case.prompts[0].len() > 1 {
            let mut other = case.prompts.clone();
            other[0][0] = other[0][0] % (VOCABULARY - 1) + 1;
            let changed = outputs(&parameters, &examples(&model, &other), 1);
            prop_assert!(relative_error(&changed, &logits(&cut)) > 1e-9);
        }
    }

    /// Heads of keys and values that are shared by groups of queries equal repeated heads, and the gradient of a shared head is
    /// the sum of its copies' gradients.
    #[test]
    fn grouped_heads_are_repeated_heads(case in case()) {
        prop_assume!(case.config.architecture != CausalArchitecture::Gpt2);
        let (model, parameters) = case.model();
        let CausalConfig { heads, kv_heads, head_size, .. } = case.config;
        let group = heads / kv_heads;
        let full = CausalLm::new(CausalConfig { kv_heads: heads, ..case.config.clone() });
        let shared = |name: &str| name.contains("k_proj") || name.contains("v_proj");
        let heads_of = |t: &Tensor, n: i64| t.reshape([n, head_size, -1]);
        let values = parameters.specs().iter().zip(parameters.values()).map(|(spec, t)| {
            if !shared(&spec.name) {
                return t.shallow_clone();
            }
            let mut shape = spec.shape.clone();
            shape[0] = heads * head_size;
            heads_of(t, kv_heads).repeat_interleave_self_int(group, 0, None).reshape(shape.as_slice())
        });
        let repeated = Parameters::new(std::sync::Arc::clone(full.specs()), values.collect());
        let (grouped, whole) = (examples(&model, &case.prompts), examples(&full, &case.prompts));
        let logits = |p: &Parameters, e: &PromptExamples<'_>| outputs(p, e, e.len());
        prop_assert!(relative_error(&logits(&repeated, &whole), &logits(&parameters, &grouped)) <= 1e-13);
        let (j, wide) = (dense_jacobian(&parameters, &grouped).unwrap(), dense_jacobian(&repeated, &whole).unwrap());
        let (mut at, mut wide_at) = (0, 0);
        let mut summed = Vec::new();
        for (narrow, spec) in model.specs().iter().zip(full.specs().iter()) {
            let part = wide.narrow(1, wide_at, spec.numel());
            summed.push(if shared(&spec.name) {
                let copies = part.reshape([j.size()[0], kv_heads, group, -1]);
                copies.sum_dim_intlist(2, false, Kind::Double).reshape([j.size()[0], -1])
            } else {
                part
            });
            (at, wide_at) = (at + narrow.numel(), wide_at + spec.numel());
        }
        prop_assert_eq!(at, j.size()[1]);
        prop_assert!(relative_error(&Tensor::cat(&summed, 1), &j) <= 1e-12);
    }
}

/// With rotary positions a key's bias affects softmax, because it changes scores depending on distance; without them it does
/// not, and its gradient is zero.
#[test]
fn key_biases_count_where_positions_are_rotary() {
    let prompts = vec![vec![4, 9, 2, 5]];
    for (architecture, part, counts) in [
        (CausalArchitecture::Gpt2, "h.1.attn.c_attn.bias", false),
        (CausalArchitecture::Qwen2, "layers.1.self_attn.k_proj.bias", true),
    ] {
        let config = random::tiny_causal(architecture, VOCABULARY);
        let (model, parameters) = Case { config, seed: 4, prompts: prompts.clone() }.model();
        let j = dense_jacobian(&parameters, &examples(&model, &prompts)).expect("not interrupted");
        let at = parameters.specs().iter().position(|s| s.name.ends_with(part)).expect("the bias");
        let start: i64 = parameters.specs()[..at].iter().map(ParameterSpec::numel).sum();
        let zeros = &parameters.specs()[at].structural_zeros;
        let bias = j.narrow(1, start, parameters.specs()[at].numel());
        let size = |t: &Tensor| t.abs().max().double_value(&[]) / j.abs().max().double_value(&[]);
        assert_eq!(zeros.is_empty(), counts, "{part}");
        if counts {
            assert!(size(&bias) > 1e-3, "{part}: {:.1e}", size(&bias));
        } else {
            assert_eq!(zeros.as_slice(), std::slice::from_ref(&(16..32)));
            assert!(size(&bias.narrow(1, 16, 16)) <= 1e-14);
            assert!(size(&bias.narrow(1, 0, 16)) > 1e-3 && size(&bias.narrow(1, 32, 16)) > 1e-3);
        }
    }
}
