//! Wraps a task's prompt in the checkpoint's own chat template.
//!
//! The template's parts before `reply` (all of them without one) are a user's message, those after it start the assistant's
//! answer. Source of the rules: `apply_chat_template` of transformers with `add_generation_prompt`: the whole is tokenized
//! as one text, without tokens before it that the chat template does not write. May not know examples.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error as JinjaError, ErrorKind, Value, context};

use super::definition::TaskDefinition;
use super::reading::Reading;
use super::template::{Part, literal_text};
use super::tokenizer::PromptTokenizer;
use crate::error::{Error, Result};
use crate::setting::Field;

/// Placeholder of the message while the template is rendered: characters that occur in no text.
const MESSAGE: &str = "\u{F8FF}\u{E000}\u{F8FF}";

/// A task's prompt as a chat.
pub(super) struct Chat {
    /// What the chat template writes before the message.
    pub before: String,
    /// The parts of the message.
    pub message: Vec<Part>,
    /// What it writes after the message.
    pub after: String,
    /// The parts that start the answer.
    pub reply: Vec<Part>,
    /// Whether it strips spaces around the message.
    pub trims: bool,
}

impl Chat {
    /// Renders the checkpoint's chat template around the task's prompt.
    ///
    /// # Errors
    /// [`Error::Format`] if the checkpoint has no chat template, or one that fails or changes the message.
    pub fn new(task: &TaskDefinition, tokenizer: &PromptTokenizer, opening: &[Part]) -> Result<Self> {
        let templates = tokenizer.chat_templates();
        let Some(source) = templates.get("default") else {
            return Err(Error::format(
                tokenizer.source(),
                "the checkpoint has no chat template (chat_template in tokenizer_config.json, or chat_template.jinja); write the \
                 markers of the chat into the template",
            ));
        };
        let fail = |problem: String| Error::format(tokenizer.source(), format!("its chat template {problem}"));
        let render = |message: &str| {
            rendered(source, tokenizer, message).map_err(|reason| fail(format!("fails: {}", one_line(&reason))))
        };
        let text = render(MESSAGE)?;
        let mut halves = text.split(MESSAGE);
        let (Some(before), Some(after), None) = (halves.next(), halves.next(), halves.next()) else {
            return Err(fail("does not write the user's message exactly once and unchanged".to_string()));
        };
        // Not by searching for the spaces: the template may write its own there.
        let trims = render(&format!(" {MESSAGE} "))? == text;
        let at = opening.iter().position(|part| *part == Part::Reply);
        let (message, reply) = match at {
            Some(at) => (&opening[..at], &opening[at + 1..]),
            None => (opening, &[][..]),
        };
        if message.is_empty() {
            let template = task.template_for(Reading::LastToken);
            return Err(Error::Syntax {
                what: "template",
                text: template.to_string(),
                problem: "nothing precedes `reply`".into(),
                expected: "write the user's message there".into(),
            });
        }
        Ok(Self {
            before: before.to_string(),
            message: message.to_vec(),
            after: after.to_string(),
            reply: reply.to_vec(),
            trims,
        })
    }

    /// Whether the answer continues without a space, because the text before it ends in a space or newline.
    pub fn answer_begins_bare(&self, tokenizer: &PromptTokenizer) -> bool {
        let last = match self.reply.last() {
            None => self.after.clone(),
            Some(Part::Literal(source)) => literal_text(source, &tokenizer.added_names()),
            Some(_) => return false,
        };
        last.ends_with(char::is_whitespace)
    }
}

/// The chat template's text for one message of the user.
fn rendered(source: &str, tokenizer: &PromptTokenizer, message: &str) -> std::result::Result<String, JinjaError> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    // Templates call methods of Python's strings and lists.
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |said: String| -> std::result::Result<Value, JinjaError> {
        Err(JinjaError::new(ErrorKind::InvalidOperation, said))
    });
    let roles = tokenizer.roles().iter().map(|(key, token)| (*key, Value::from(token.as_str())));
    let tokens: BTreeMap<&str, Value> = roles.collect();
    let messages = vec![context! { role => "user", content => message }];
    environment.render_str(
        source,
        context! { messages, add_generation_prompt => true, tools => (), documents => (), ..tokens },
    )
}

/// An error message of the template engine without source lines.
fn one_line(reason: &JinjaError) -> String {
    reason.to_string().lines().next().unwrap_or_default().to_string()
}

/// The task's prompt as a chat.
pub(super) fn chat_of(task: &TaskDefinition, tokenizer: &PromptTokenizer) -> Result<Chat> {
    Chat::new(task, tokenizer, &opening(task)?)
}

/// The parts before the mask.
pub(super) fn opening(task: &TaskDefinition) -> Result<Vec<Part>> {
    let template = task.template_for(Reading::LastToken);
    let parts = template.parts();
    let mask = parts.iter().position(|part| *part == Part::Mask).unwrap_or(parts.len());
    let (before, after) = parts.split_at(mask);
    if let Some(lost) = after.iter().find(|part| matches!(part, Part::Sentence(_) | Part::Label(_))) {
        return Err(Error::Syntax {
            what: "template",
            text: template.to_string(),
            problem: format!("a causal language model reads the prompt up to its mask, but `{lost}` follows it"),
            expected: format!(
                "give a {} with all texts before the mask, such as `*sent_0*_It_was*mask*`",
                Field::Template
            ),
        });
    }
    Ok(before.iter().filter(|part| **part != Part::Cls).cloned().collect())
}
