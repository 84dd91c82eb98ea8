//! Reads the fields of a `config.json` strictly: null counts as absent, and a value of the wrong type is an error, never the
//! default. Knows no architecture.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::activation::Activation;
use super::checkpoint::no_model;
use crate::error::{Error, Result};
use crate::files::{is_there, read_text};

/// Maximum number of layers: more must be a mistake, and the names of their tensors would fill memory.
pub(super) const MOST_LAYERS: i64 = 1000;

/// Largest size that is read.
const LARGEST: i64 = 1 << 31;

/// A JSON object with settings, and the file it came from, for messages.
pub(super) struct Fields {
    path: PathBuf,
    json: Value,
}

impl Fields {
    /// Reads `config.json` in a checkpoint directory.
    ///
    /// # Errors
    /// Those of [`Self::read_file`], and a quantized checkpoint.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        if !is_there(&path)? {
            let expected =
                || "expected a Hugging Face checkpoint directory with config.json, weights and tokenizer.json".into();
            let why = no_model(directory).unwrap_or_else(expected);
            return Err(Error::format(directory, format!("no config.json here: {why}")));
        }
        let fields = Self::read_file(&path, "the model's settings")?;
        for field in ["quantization_config", "compression_config"] {
            if let Some(found) = fields.present(field) {
                let method = found.get("quant_method").and_then(Value::as_str).unwrap_or("unknown method");
                return Err(fields.fail(format!(
                    "{field} says that the weights are quantized ({method}), which is not supported; dequantize the \
                     model in transformers (model.dequantize()) and save it, or use the original model"
                )));
            }
        }
        if let Some(pruned) =
            fields.present("pruned_heads").filter(|pruned| pruned.as_object().is_some_and(|p| !p.is_empty()))
        {
            return Err(fields.fail(format!("pruned_heads {pruned} is not supported: all layers must have all heads")));
        }
        Ok(fields)
    }

    /// Reads a file with a JSON object of what `content` says.
    pub fn read_file(path: &Path, content: &str) -> Result<Self> {
        let text = read_text(path)?;
        let json: Value =
            serde_json::from_str(&text).map_err(|e| Error::format(path, format!("not a JSON document: {e}")))?;
        let fields = Self { path: path.to_path_buf(), json };
        if fields.json.is_object() {
            return Ok(fields);
        }
        Err(fields.fail(format!("expected a JSON object with {content}")))
    }

    /// Settings from elsewhere, as if they were in this file.
    pub fn of(path: &Path, json: Value) -> Self {
        Self { path: path.to_path_buf(), json }
    }

    /// All names and values.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.json.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// An error about this file.
    pub fn fail(&self, message: impl Into<String>) -> Error {
        Error::format(&self.path, message.into())
    }

    /// An error about one field.
    pub fn wrong(&self, field: &str, wanted: &str, found: &Value) -> Error {
        self.fail(format!("the field `{field}` must be {wanted}, found {found}"))
    }

    /// The value of a field that is present and not null.
    pub fn present(&self, field: &str) -> Option<&Value> {
        self.json.get(field).filter(|v| !v.is_null())
    }

    /// Whether a field is present and null.
    pub fn is_null(&self, field: &str) -> bool {
        self.json.get(field).is_some_and(Value::is_null)
    }

    /// The fields of a nested object, if present.
    pub fn object(&self, field: &str) -> Result<Option<Self>> {
        match self.present(field) {
            None => Ok(None),
            Some(v) if v.is_object() => Ok(Some(Self { path: self.path.clone(), json: v.clone() })),
            Some(v) => Err(self.wrong(field, "an object", v)),
        }
    }

    /// A string.
    pub fn text<'a>(&'a self, field: &str, default: &'a str) -> Result<&'a str> {
        match self.present(field) {
            None => Ok(default),
            Some(v) => v.as_str().ok_or_else(|| self.wrong(field, "a string", v)),
        }
    }

    /// A positive integer; an error if absent without a default.
    pub fn size(&self, field: &str, default: Option<i64>) -> Result<i64> {
        match (self.present(field), default) {
            (None, Some(d)) => Ok(d),
            (None, None) => Err(self.fail(format!("the field `{field}` is missing (expected a positive integer)"))),
            (Some(v), _) => match v.as_i64() {
                Some(size @ 1..=LARGEST) => Ok(size),
                Some(size) if size > 0 => Err(self.wrong(field, &format!("{LARGEST} at most"), v)),
                _ => Err(self.wrong(field, "a positive integer", v)),
            },
        }
    }

    /// A positive integer, or `None` if the field is null; the default if absent.
    pub fn nullable_size(&self, field: &str, default: Option<i64>) -> Result<Option<i64>> {
        match self.present(field) {
            None => Ok(default.filter(|_| !self.is_null(field))),
            Some(_) => self.size(field, None).map(Some),
        }
    }

    /// A positive number, or `None` if the field is null; the default if absent.
    pub fn nullable_number(&self, field: &str, default: Option<f64>) -> Result<Option<f64>> {
        match self.present(field) {
            None => Ok(default.filter(|_| !self.is_null(field))),
            Some(_) => self.positive(field, 1.0).map(Some),
        }
    }

    /// A non-negative integer.
    pub fn count(&self, field: &str, default: i64) -> Result<i64> {
        match self.present(field) {
            None => Ok(default),
            Some(v) => v
                .as_i64()
                .filter(|n| (0..=LARGEST).contains(n))
                .ok_or_else(|| self.wrong(field, "a non-negative integer", v)),
        }
    }

    /// A positive integer under either of two names, which must not contradict each other.
    pub fn size_under(&self, names: [&str; 2], default: i64) -> Result<i64> {
        if let [Some(one), Some(other)] = names.map(|name| self.present(name))
            && one != other
        {
            let [name, alias] = names;
            return Err(self.fail(format!("{name} {one} and {alias} {other} contradict each other")));
        }
        let name = names.into_iter().find(|name| self.present(name).is_some()).unwrap_or(names[0]);
        self.size(name, Some(default))
    }

    /// The number of layers, under either of two names.
    pub fn layers(&self, names: [&str; 2], default: i64) -> Result<i64> {
        let layers = self.size_under(names, default)?;
        if layers > MOST_LAYERS {
            return Err(self.wrong(names[0], &format!("at most {MOST_LAYERS}"), &layers.into()));
        }
        Ok(layers)
    }

    /// A non-negative number.
    pub fn number(&self, field: &str, default: f64) -> Result<f64> {
        match self.present(field) {
            None => Ok(default),
            Some(v) => v.as_f64().filter(|x| *x >= 0.0).ok_or_else(|| self.wrong(field, "a non-negative number", v)),
        }
    }

    /// A number greater than zero.
    pub fn positive(&self, field: &str, default: f64) -> Result<f64> {
        match self.present(field) {
            None => Ok(default),
            Some(v) => v.as_f64().filter(|x| *x > 0.0).ok_or_else(|| self.wrong(field, "a positive number", v)),
        }
    }

    /// True or false.
    pub fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.json.get(field) {
            None => Ok(default),
            // transformers' constructors get null in the default's place, and Python takes it for false.
            Some(Value::Null) => Ok(false),
            Some(v) => v.as_bool().ok_or_else(|| self.wrong(field, "true or false", v)),
        }
    }

    /// The token id of padding: any integer, because many files write -1 or an id beyond the vocabulary for "none".
    pub fn pad_token_id(&self, default: i64) -> Result<i64> {
        match self.present("pad_token_id") {
            None => Ok(default),
            Some(v) => {
                v.as_i64().filter(|n| n.abs() <= 1 << 31).ok_or_else(|| self.wrong("pad_token_id", "a token id", v))
            }
        }
    }

    /// An elementwise activation, by any of Hugging Face's names.
    pub fn activation(&self, field: &str, default: &str) -> Result<Activation> {
        match self.text(field, default)? {
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "quick_gelu" => Ok(Activation::QuickGelu),
            "relu2" => Ok(Activation::SquaredRelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => Ok(Activation::GeluTanh),
            "gelu_fast" => Ok(Activation::GeluFast),
            "relu" => Ok(Activation::Relu),
            "silu" | "swish" => Ok(Activation::Silu),
            "tanh" => Ok(Activation::Tanh),
            other => Err(self.fail(format!(
                "{field} `{other}` is not supported; supported are: gelu, gelu_new, gelu_fast, quick_gelu, relu, relu2, silu, tanh"
            ))),
        }
    }

    /// Fails unless `whole` is a multiple of `part`.
    pub fn multiple(&self, whole: (&str, i64), part: (&str, i64)) -> Result<()> {
        if whole.1 % part.1 == 0 {
            return Ok(());
        }
        Err(self.fail(format!("{} {} is not a multiple of {} {}", whole.0, whole.1, part.0, part.1)))
    }
}
