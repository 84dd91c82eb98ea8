//! The known tokenizer classes of transformers, and what each does with a checkpoint's files.
//!
//! One table: default special tokens, how their texts become tokens, overrides of `tokenizer.json`, and the files from which
//! the class is converted without `tokenizer.json`. A class that is not in it is refused by name, because its tokens are
//! unknown. Source: the fast and slow tokenizer classes of transformers 4.57.

use super::special::Dress;

/// A class of transformers, fast and slow.
pub(super) struct Class {
    /// Its name without `Fast`.
    pub name: &'static str,
    /// Special tokens if no file names them.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Special tokens without a role if no file lists them.
    pub additional: &'static [&'static str],
    /// How the fast class turns texts into tokens, by role.
    pub fast: fn(&str) -> Option<Dress>,
    /// The same for the slow class, whose tokens a conversion keeps.
    pub slow: fn(&str) -> Option<Dress>,
    /// Its overrides of `tokenizer.json`.
    pub rule: Rule,
    /// The files from which it is converted.
    pub vocabulary: Vocabulary,
}

/// A class's overrides of the tokenizer that it has read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nothing beyond what every class does.
    Plain,
    /// BERT's normalizer follows `do_lower_case`, `strip_accents` and `tokenize_chinese_chars`.
    Bert,
    /// BERT's normalizer follows the first two.
    MpNet,
    /// The class fails if `add_bos_token` is true.
    NoBos,
    /// Tokens around a text follow `add_bos_token` and `add_eos_token`.
    BosAndEos {
        /// The default of `add_bos_token`.
        bos: bool,
    },
}

/// The files of a slow tokenizer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Vocabulary {
    /// There is no slow class.
    None,
    /// BERT's list of tokens, one per line.
    WordPiece,
    /// Byte-level BPE: `vocab.json` and `merges.txt`.
    Pairs(Pairs),
    /// A SentencePiece model of this name.
    SentencePiece(&'static str, SentencePiece),
}

/// Families of byte-level tokenizers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pairs {
    Gpt2,
    Roberta,
    Qwen2,
}

/// Families of SentencePiece tokenizers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SentencePiece {
    Llama,
    Gemma,
    XlmRoberta,
    Camembert,
    Albert,
    DebertaV2,
}

const NO_DRESS: fn(&str) -> Option<Dress> = |_| None;

/// The mask absorbs the preceding space.
const fn mask(normalized: Option<bool>, special: bool) -> Dress {
    Dress { lstrip: true, normalized, special }
}

const UNSTRIPPED: Dress = Dress { lstrip: false, normalized: None, special: false };
const SPECIAL: Dress = Dress { lstrip: false, normalized: Some(false), special: true };

fn masked(key: &str) -> Option<Dress> {
    (key == "mask_token").then_some(mask(Some(false), false))
}

fn masked_either_way(key: &str) -> Option<Dress> {
    (key == "mask_token").then_some(mask(None, false))
}

fn masked_special(key: &str) -> Option<Dress> {
    (key == "mask_token").then_some(mask(None, true))
}

fn roberta_slow(key: &str) -> Option<Dress> {
    masked(key).or(Some(UNSTRIPPED))
}

fn mpnet(key: &str) -> Option<Dress> {
    masked_either_way(key).or(Some(UNSTRIPPED))
}

fn bos_eos_unk_pad(key: &str) -> Option<Dress> {
    matches!(key, "bos_token" | "eos_token" | "unk_token" | "pad_token").then_some(SPECIAL)
}

fn gpt2_slow(key: &str) -> Option<Dress> {
    matches!(key, "bos_token" | "eos_token" | "unk_token" | "pad_token").then_some(UNSTRIPPED)
}

fn deberta_v2_slow(key: &str) -> Option<Dress> {
    let unk = Dress { lstrip: false, normalized: Some(true), special: true };
    (key == "unk_token").then_some(unk)
}

fn camembert_slow(key: &str) -> Option<Dress> {
    (key == "mask_token").then_some(mask(Some(false), true))
}

const BERT: &[(&str, &str)] = &[
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];
const ROBERTA: &[(&str, &str)] = &[
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("sep_token", "</s>"),
    ("cls_token", "<s>"),
    ("unk_token", "<unk>"),
    ("pad_token", "<pad>"),
    ("mask_token", "<mask>"),
];
const DEBERTA: &[(&str, &str)] = &[
    ("bos_token", "[CLS]"),
    ("eos_token", "[SEP]"),
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];
const ALBERT: &[(&str, &str)] = &[
    ("bos_token", "[CLS]"),
    ("eos_token", "[SEP]"),
    ("unk_token", "<unk>"),
    ("sep_token", "[SEP]"),
    ("pad_token", "<pad>"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];
const HERBERT: &[(&str, &str)] = &[
    ("cls_token", "<s>"),
    ("unk_token", "<unk>"),
    ("pad_token", "<pad>"),
    ("mask_token", "<mask>"),
    ("sep_token", "</s>"),
];
const MPNET: &[(&str, &str)] = &[
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("sep_token", "</s>"),
    ("cls_token", "<s>"),
    ("unk_token", "[UNK]"),
    ("pad_token", "<pad>"),
    ("mask_token", "<mask>"),
];
const GPT2: &[(&str, &str)] =
    &[("unk_token", "<|endoftext|>"), ("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>")];
const QWEN2: &[(&str, &str)] =
    &[("unk_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("pad_token", "<|endoftext|>")];
const LLAMA: &[(&str, &str)] = &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")];
const GEMMA: &[(&str, &str)] =
    &[("unk_token", "<unk>"), ("bos_token", "<bos>"), ("eos_token", "<eos>"), ("pad_token", "<pad>")];

/// A class without special rules.
const PLAIN: Class = Class {
    name: "PreTrainedTokenizer",
    defaults: &[],
    additional: &[],
    fast: NO_DRESS,
    slow: NO_DRESS,
    rule: Rule::Plain,
    vocabulary: Vocabulary::None,
};

const fn bert(name: &'static str) -> Class {
    Class { name, defaults: BERT, rule: Rule::Bert, vocabulary: Vocabulary::WordPiece, ..PLAIN }
}

const CLASSES: &[Class] = &[
    PLAIN,
    // The name of the same class in files written by transformers 5.
    Class { name: "TokenizersBackend", ..PLAIN },
    bert("BertTokenizer"),
    bert("DistilBertTokenizer"),
    bert("ElectraTokenizer"),
    bert("ConvBertTokenizer"),
    bert("MobileBertTokenizer"),
    bert("SqueezeBertTokenizer"),
    bert("LayoutLMTokenizer"),
    Class { name: "MPNetTokenizer", defaults: MPNET, fast: mpnet, rule: Rule::MpNet, ..PLAIN },
    Class {
        name: "RobertaTokenizer",
        defaults: ROBERTA,
        fast: masked,
        slow: roberta_slow,
        vocabulary: Vocabulary::Pairs(Pairs::Roberta),
        ..PLAIN
    },
    Class { name: "DebertaTokenizer", defaults: DEBERTA, ..PLAIN },
    Class { name: "HerbertTokenizer", defaults: HERBERT, ..PLAIN },
    Class {
        name: "GPT2Tokenizer",
        defaults: GPT2,
        slow: gpt2_slow,
        vocabulary: Vocabulary::Pairs(Pairs::Gpt2),
        ..PLAIN
    },
    Class { name: "CodeGenTokenizer", defaults: GPT2, rule: Rule::NoBos, ..PLAIN },
    Class {
        name: "Qwen2Tokenizer",
        defaults: QWEN2,
        fast: bos_eos_unk_pad,
        slow: bos_eos_unk_pad,
        vocabulary: Vocabulary::Pairs(Pairs::Qwen2),
        ..PLAIN
    },
    Class { name: "GPTNeoXTokenizer", defaults: GPT2, rule: Rule::BosAndEos { bos: false }, ..PLAIN },
    Class {
        name: "LlamaTokenizer",
        defaults: LLAMA,
        slow: bos_eos_unk_pad,
        rule: Rule::BosAndEos { bos: true },
        vocabulary: Vocabulary::SentencePiece("tokenizer.model", SentencePiece::Llama),
        ..PLAIN
    },
    Class {
        name: "GemmaTokenizer",
        defaults: GEMMA,
        slow: bos_eos_unk_pad,
        rule: Rule::BosAndEos { bos: true },
        vocabulary: Vocabulary::SentencePiece("tokenizer.model", SentencePiece::Gemma),
        ..PLAIN
    },
    Class {
        name: "XLMRobertaTokenizer",
        defaults: ROBERTA,
        fast: masked_either_way,
        slow: masked_special,
        vocabulary: Vocabulary::SentencePiece("sentencepiece.bpe.model", SentencePiece::XlmRoberta),
        ..PLAIN
    },
    Class {
        name: "CamembertTokenizer",
        defaults: ROBERTA,
        additional: &["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"],
        fast: masked_special,
        slow: camembert_slow,
        vocabulary: Vocabulary::SentencePiece("sentencepiece.bpe.model", SentencePiece::Camembert),
        ..PLAIN
    },
    Class {
        name: "AlbertTokenizer",
        defaults: ALBERT,
        fast: masked,
        slow: masked,
        vocabulary: Vocabulary::SentencePiece("spiece.model", SentencePiece::Albert),
        ..PLAIN
    },
    Class {
        name: "DebertaV2Tokenizer",
        defaults: DEBERTA,
        slow: deberta_v2_slow,
        vocabulary: Vocabulary::SentencePiece("spm.model", SentencePiece::DebertaV2),
        ..PLAIN
    },
];

/// The class of this name, without `Fast`.
pub(super) fn class(name: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.name == name)
}

/// The names of the classes, for messages.
pub(super) fn class_names() -> String {
    let names: Vec<_> = CLASSES.iter().map(|class| class.name).collect();
    names.join(", ")
}

/// `AutoTokenizer`'s class for a model whose files name none; `None` for unknown kinds of models.
pub(super) fn class_of_model(model_type: &str) -> Option<&'static str> {
    Some(match model_type {
        "bert" | "ernie" | "megatron-bert" | "nezha" => "BertTokenizer",
        "distilbert" => "DistilBertTokenizer",
        "electra" => "ElectraTokenizer",
        "roberta" | "roberta-prelayernorm" | "data2vec-text" => "RobertaTokenizer",
        "xlm-roberta" | "xlm-roberta-xl" | "xmod" => "XLMRobertaTokenizer",
        "camembert" => "CamembertTokenizer",
        "albert" => "AlbertTokenizer",
        "mpnet" => "MPNetTokenizer",
        "deberta" => "DebertaTokenizer",
        "deberta-v2" => "DebertaV2Tokenizer",
        "gpt2" | "gpt_neo" | "gptj" | "opt" | "starcoder2" => "GPT2Tokenizer",
        "phi" | "codegen" => "CodeGenTokenizer",
        "llama" | "mistral" | "mixtral" | "phi3" => "LlamaTokenizer",
        "gemma" | "gemma2" | "gemma3" | "gemma3_text" => "GemmaTokenizer",
        "qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe" => "Qwen2Tokenizer",
        "gpt_neox" | "olmo" | "olmo2" | "olmoe" | "stablelm" => "GPTNeoXTokenizer",
        "modernbert" | "smollm3" | "falcon" => "PreTrainedTokenizer",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_one_entry_each_and_models_have_classes() {
        for (at, entry) in CLASSES.iter().enumerate() {
            assert!(CLASSES[..at].iter().all(|earlier| earlier.name != entry.name), "{}", entry.name);
        }
        for model in ["bert", "roberta", "llama", "gpt_neox", "modernbert", "deberta-v2", "gemma2", "qwen3"] {
            assert!(class_of_model(model).is_some_and(|name| class(name).is_some()), "{model}");
        }
        assert!(class("KoBertTokenizer").is_none());
    }
}
