//! A checkpoint's chat template, rendered as by transformers' `render_jinja_template` (4.57): Jinja2's rules for blocks and line
//! ends, Python's methods of texts, `tojson` as `json.dumps`, `raise_exception`, and the block `generation`, which marks the
//! assistant's words. There is no date (`strftime_now`), so that prompts are the same every day. May not know tasks.

use std::io;
use std::path::PathBuf;

use fancy_regex::Regex;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, Error as JinjaError, ErrorKind, State, Value, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::tokenizer::PromptTokenizer;
use crate::error::{Error, Result};

/// Name of the template in its environment.
const NAME: &str = "chat template";

/// A chat template, ready to be rendered.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    /// The special tokens by role.
    tokens: Value,
    source: PathBuf,
}

impl ChatTemplate {
    /// The main chat template of a tokenizer.
    ///
    /// # Errors
    /// [`Error::Format`] if there is none, or it is no template.
    pub fn new(tokenizer: &PromptTokenizer) -> Result<Self> {
        let templates = tokenizer.chat_templates();
        let Some(source) = templates.get("default") else {
            let problem = if templates.is_empty() {
                "the checkpoint has no chat template (chat_template in tokenizer_config.json, or chat_template.jinja)"
                    .into()
            } else {
                let names: Vec<_> = templates.keys().map(|name| format!("`{name}`")).collect();
                format!(
                    "the checkpoint has several chat templates ({}), but none is called `default`",
                    names.join(", ")
                )
            };
            let advice = "write the markers of the chat into the template";
            return Err(Error::format(tokenizer.source(), format!("{problem}; {advice}")));
        };
        let mut own = Self {
            environment: Environment::new(),
            tokens: Value::from(Serde(tokenizer.template_tokens())),
            source: tokenizer.source().to_path_buf(),
        };
        let compiled = own.compile(source);
        compiled.map_err(|reason| own.fail(&format!("fails: {}", one_line(&reason))))?;
        Ok(own)
    }

    fn compile(&mut self, source: &str) -> std::result::Result<(), JinjaError> {
        // In texts of Python, where the engine would keep or refuse them.
        let escape = Regex::new(r"(?<!\\)(?:\\\\)*(\\(?:[xUNav/]|\n))").expect("a pattern");
        if let Ok(Some(found)) = escape.captures(source) {
            let shown = found.get(1).map_or("", |escape| escape.as_str()).escape_debug().to_string();
            let problem = format!("the escape `{shown}` is not supported; write the character itself");
            return Err(JinjaError::new(ErrorKind::SyntaxError, problem));
        }
        let environment = &mut self.environment;
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        // Python's and Rust's spaces differ in four control characters.
        environment.set_unknown_method_callback(|state: &mut State<'_, '_>, value: &Value, method, args: &[Value]| {
            match (value.as_str(), method, args) {
                (Some(text), "strip", []) => Ok(text.trim_matches(is_python_space).into()),
                (Some(text), "lstrip", []) => Ok(text.trim_start_matches(is_python_space).into()),
                (Some(text), "splitlines", []) => Ok(Value::from_iter(lines(text))),
                (Some(text), "rstrip", []) => Ok(text.trim_end_matches(is_python_space).into()),
                _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
            }
        });
        environment.add_filter("trim", |text: &str, characters: Option<&str>| match characters {
            None => text.trim_matches(is_python_space).to_string(),
            Some(characters) => text.trim_matches(|c| characters.contains(c)).to_string(),
        });
        environment.add_test("sequence", |value: &Value| value.as_str().is_some() || value.kind() == ValueKind::Seq);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |said: String| -> std::result::Result<Value, JinjaError> {
            Err(JinjaError::new(ErrorKind::InvalidOperation, said))
        });
        environment.add_template_owned(NAME, adapted(source))
    }

    /// The text for one message of the user, up to where the answer begins.
    ///
    /// # Errors
    /// [`Error::Format`] if the template fails.
    pub fn render(&self, message: &str) -> Result<String> {
        let messages = vec![context! { role => "user", content => message }];
        let values =
            context! { messages, add_generation_prompt => true, tools => (), documents => (), ..self.tokens.clone() };
        let rendered = self.environment.get_template(NAME).and_then(|template| template.render(values));
        rendered.map_err(|reason| self.fail(&format!("fails: {}", one_line(&reason))))
    }

    /// An error of the template.
    pub fn fail(&self, problem: &str) -> Error {
        Error::format(&self.source, format!("its chat template {problem}"))
    }
}

/// A template with Jinja2's line ends, and with a plain block for `generation`, which writes its content unchanged.
fn adapted(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let replaced = |source: &str, tag: &str, plain: &str| {
        let pattern = Regex::new(&format!(r"\{{%([-+]?)\s*{tag}\s*([-+]?)%\}}")).expect("a pattern");
        pattern.replace_all(source, format!("{{%${{1}} {plain} ${{2}}%}}")).into_owned()
    };
    let opened = replaced(&source, "generation", "with generation = true");
    replaced(&opened, "endgeneration", "endwith")
}

/// Whether Python's `str.isspace` holds for a character.
pub(super) fn is_python_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1C}'..='\u{1F}')
}

/// Python's `str.splitlines`.
fn lines(text: &str) -> Vec<String> {
    let ends = ['\n', '\u{B}', '\u{C}', '\u{1C}', '\u{1D}', '\u{1E}', '\u{85}', '\u{2028}', '\u{2029}'];
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<String> = text.split(ends).map(str::to_owned).collect();
    // What follows the last end is a line only if there is something.
    lines.pop_if(|last| last.is_empty());
    lines
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
#[expect(clippy::needless_pass_by_value, reason = "the form of the engine's filters")]
fn to_json(value: &Value, options: Kwargs) -> std::result::Result<String, JinjaError> {
    let indent: Option<usize> = options.get("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(JinjaError::new(ErrorKind::InvalidOperation, "tojson with ensure_ascii is not supported"));
    }
    options.assert_all_used()?;
    let mut text = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut text, Spaced)),
        Some(count) => {
            let indent = " ".repeat(count);
            value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent.as_bytes())))
        }
    };
    written.map_err(|reason| JinjaError::new(ErrorKind::BadSerialization, reason.to_string()))?;
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// Python's separators, `, ` and `: `.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// An error message of the template engine without source lines.
fn one_line(reason: &JinjaError) -> String {
    reason.to_string().lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_generation_write_their_content_and_keep_their_signs() {
        let source = "a\r\n{%- generation %} b {% endgeneration -%}\r\nc {%generation%}{%endgeneration%}";
        let expected = "a\n{%- with generation = true %} b {% endwith -%}\nc {% with generation = true %}{% endwith %}";
        assert_eq!(adapted(source), expected);
    }

    #[test]
    fn lines_end_as_in_python() {
        assert_eq!(lines("a\r\nb\rc\u{1c}\n\u{2028}d\n"), ["a", "b", "c", "", "", "d"]);
        assert!(lines("").is_empty());
    }

    #[test]
    fn json_is_written_as_by_python() {
        let value = Value::from(Serde(&serde_json::json!({"b": [1, "é\"\u{1f}\n"], "a": null, "c": {}})));
        let own = |indent: Option<usize>| to_json(&value, Kwargs::from_iter([("indent", Value::from(indent))]));
        assert_eq!(own(None).expect("JSON"), "{\"b\": [1, \"é\\\"\\u001f\\n\"], \"a\": null, \"c\": {}}");
        let lines = "{\n  \"b\": [\n    1,\n    \"é\\\"\\u001f\\n\"\n  ],\n  \"a\": null,\n  \"c\": {}\n}";
        assert_eq!(own(Some(2)).expect("JSON"), lines);
    }
}
