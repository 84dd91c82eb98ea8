//! DistilBERT, ELECTRA and ALBERT checkpoints that cannot be loaded: their own fields, discriminators, shared layers.

use kernelview::lm::Architecture;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::Bad;

#[test]
fn distilbert_is_refused_in_its_own_words() {
    let bad = || Bad::of(Architecture::DistilBert);
    let config = |bad: Bad, message: &str| bad.is_refused_with(&format!("/config.json: {message}"));
    config(bad().set("hidden_size", json!(8)), "dim 16 and hidden_size 8 contradict each other");
    config(bad().set("dim", json!(15)), "dim 15 is not a multiple of n_heads 2");
    config(bad().set("n_layers", json!(1001)), "the field `n_layers` must be at most 1000, found 1001");
    config(
        bad().set("activation", json!("mish")),
        "activation `mish` is not supported; supported are: gelu, gelu_new, gelu_fast, quick_gelu, relu, relu2, silu, tanh",
    );
    config(
        bad().set("tie_weights_", json!(false)),
        "tie_weights_ false and tie_word_embeddings true contradict each other",
    );
    let tensor = |bad: Bad, message: &str| bad.is_refused_with(&format!("/model.safetensors: tensor {message}"));
    tensor(
        bad().set("hidden_dim", json!(20)),
        "`distilbert.transformer.layer.0.ffn.lin1.weight` has shape [24, 16], expected [20, 16] (hidden_dim x dim in \
         config.json)",
    );
    tensor(
        bad().set("n_layers", json!(1)),
        "`distilbert.transformer.layer.1.attention.k_lin.bias` belongs to an encoder layer beyond n_layers = 1 of \
         config.json",
    );
    let vocabulary = bad().tensors()["vocab_projector.bias"].size()[0];
    tensor(
        bad().edit_tensors(|t| t.retain(|name, _| !name.starts_with("vocab_"))),
        &format!(
            "`vocab_projector.bias` (shape [{vocabulary}]) is missing; the checkpoint has no masked-language-model head; \
             save it from a ...ForMaskedLM class"
        ),
    );
    tensor(
        bad().set("tie_word_embeddings", json!(false)),
        &format!(
            "`vocab_projector.weight` (shape [{vocabulary}, 16]) is missing; tie_word_embeddings in config.json is false, \
             so the decoder must have weights of its own"
        ),
    );
}

#[test]
fn a_discriminator_is_no_masked_language_model() {
    let bad = || Bad::of(Architecture::Electra);
    let vocabulary = bad().tensors()["generator_lm_head.bias"].size()[0];
    let discriminator = bad()
        .edit_tensors(|t| t.retain(|name, _| !name.starts_with("generator_")))
        .with("discriminator_predictions.dense.weight", Tensor::zeros([16, 16], (Kind::Float, Device::Cpu)));
    discriminator.is_refused_with(&format!(
        "/model.safetensors: tensor `generator_lm_head.bias` (shape [{vocabulary}]) is missing; the checkpoint has no \
         generator head (generator_predictions, generator_lm_head): an ELECTRA discriminator predicts no tokens; use its generator, saved from ElectraForMaskedLM"
    ));
    bad().set("embedding_size", json!(16)).is_refused_with(&format!(
        "/model.safetensors: tensor `electra.embeddings.word_embeddings.weight` has shape [{vocabulary}, 8], expected \
         [{vocabulary}, 16] (vocab_size x hidden_size in config.json)"
    ));
    bad().set("embedding_size", Value::Null).is_refused_with(&format!(
        "/model.safetensors: tensor `electra.embeddings.word_embeddings.weight` has shape [{vocabulary}, 8], expected \
         [{vocabulary}, 128] (vocab_size x embedding_size in config.json)"
    ));
}

#[test]
fn groups_of_shared_layers_are_refused_by_name() {
    let bad = || Bad::of(Architecture::Albert);
    let config = |bad: Bad, message: &str| bad.is_refused_with(&format!("/config.json: {message}"));
    config(
        bad().set("num_hidden_groups", json!(3)),
        "num_hidden_groups 3 is larger than num_hidden_layers 2: some groups would have no layer",
    );
    // Names of this many layers' tensors would fill the memory before any comparison.
    config(
        bad().set("inner_group_num", json!(501)),
        "num_hidden_layers 2 times inner_group_num 501 must be at most 1000",
    );
    config(
        bad().set("num_hidden_groups", json!(0)),
        "the field `num_hidden_groups` must be a positive integer, found 0",
    );
    let tensor = |bad: Bad, message: &str| bad.is_refused_with(&format!("/model.safetensors: tensor {message}"));
    tensor(
        bad().set("num_hidden_groups", json!(2)),
        "`albert.encoder.albert_layer_groups.1.albert_layers.0.attention.query.weight` (shape [16, 16]) is missing; the \
         checkpoint has 1 layer group(s), num_hidden_groups in config.json is 2",
    );
    let key = "albert.encoder.albert_layer_groups.1.albert_layers.0.attention.key.bias";
    tensor(
        bad().with(key, Tensor::zeros([16], (Kind::Float, Device::Cpu))),
        &format!("`{key}` belongs to a layer group beyond num_hidden_groups = 1 of config.json"),
    );
    let inner = "albert.encoder.albert_layer_groups.0.albert_layers.1.attention.key.bias";
    tensor(
        bad().with(inner, Tensor::zeros([16], (Kind::Float, Device::Cpu))),
        &format!("`{inner}` is part of a layer group, but this architecture has no such parameter"),
    );
}
