//! Wraps a task's prompt in the checkpoint's own chat template.
//!
//! The template's parts before `reply` (all of them without one) are a user's message, those after it start the assistant's
//! answer. Source of the rules: `apply_chat_template` of transformers with `add_generation_prompt`: the whole is tokenized
//! as one text, without tokens before it that the chat template does not write. May not know examples.

use super::chat_template::{ChatTemplate, is_python_space};
use super::definition::TaskDefinition;
use super::reading::Reading;
use super::template::{Part, literal_text};
use super::tokenizer::PromptTokenizer;
use crate::error::{Error, Result};
use crate::setting::Field;

/// Placeholder of the message while the template is examined: characters that occur in no text.
const MESSAGE: &str = "\u{F8FF}\u{E000}\u{F8FF}";

/// A task's prompt as a chat.
pub(super) struct Chat {
    template: ChatTemplate,
    /// The parts of the message.
    pub message: Vec<Part>,
    /// What the chat template writes before and after a message, unless this depends on the message.
    around: (String, String),
    /// The parts that start the answer.
    pub reply: Vec<Part>,
}

impl Chat {
    /// Reads the checkpoint's chat template, to be rendered around the task's prompt.
    ///
    /// # Errors
    /// [`Error::Format`] if the checkpoint has no chat template, or one that fails or writes the message twice or never.
    pub fn new(task: &TaskDefinition, tokenizer: &PromptTokenizer, opening: &[Part]) -> Result<Self> {
        let template = ChatTemplate::new(tokenizer)?;
        let text = template.render(MESSAGE)?;
        let mut halves = text.split(MESSAGE);
        let (Some(before), Some(after), None) = (halves.next(), halves.next(), halves.next()) else {
            return Err(template.fail("does not write the user's message exactly once and unchanged"));
        };
        let around = (before.to_string(), after.to_string());
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
        Ok(Self { template, message: message.to_vec(), around, reply: reply.to_vec() })
    }

    /// What the chat template writes before the parts of a message, these parts as it writes them, and what it writes after
    /// them: it may strip spaces on either side, and what is around the message may depend on it.
    ///
    /// # Errors
    /// The problem, if the template fails on this message or changes it in another way.
    pub fn written(&self, parts: &[String]) -> std::result::Result<(String, Vec<String>, String), String> {
        let message = parts.concat();
        let text = self.template.render(&message).map_err(|error| error.to_string())?;
        let core = message.trim_matches(is_python_space);
        // Of several places the one nearest to the usual one; another would have the same tokens.
        let distance = |at: &usize| at.abs_diff(self.around.0.len());
        let Some(found) = text.match_indices(core).map(|(at, _)| at).min_by_key(distance) else {
            return Err("the checkpoint's chat template changes this message: it does not write it as it is".into());
        };
        let leading = message.len() - message.trim_start_matches(is_python_space).len();
        // Spaces that the template keeps on either side belong to the message.
        let first = (0..=leading)
            .filter(|from| message.is_char_boundary(*from))
            .find(|from| text[..found].ends_with(&message[*from..leading]))
            .unwrap_or(leading);
        let end = leading + core.len();
        let last = (end..=message.len())
            .rev()
            .filter(|to| message.is_char_boundary(*to))
            .find(|to| text[found + core.len()..].starts_with(&message[end..*to]))
            .unwrap_or(end);
        let (before, after) = (&text[..found - (leading - first)], &text[found + core.len() + (last - end)..]);
        let mut at = 0;
        let pieces = parts.iter().map(|part| {
            let range = at.max(first)..(at + part.len()).min(last);
            at += part.len();
            message.get(range).unwrap_or_default().to_string()
        });
        let pieces = pieces.collect();
        Ok((before.to_string(), pieces, after.to_string()))
    }

    /// Whether the answer continues without a space, because the text before it ends in a space or newline.
    pub fn answer_begins_bare(&self, tokenizer: &PromptTokenizer) -> bool {
        let last = match self.reply.last() {
            None => self.around.1.clone(),
            Some(Part::Literal(source)) => literal_text(source, &tokenizer.added_names()),
            Some(_) => return false,
        };
        last.ends_with(char::is_whitespace)
    }
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
