//! The 14 tasks of the paper as one table: data columns, template, label words, lengths.
//!
//! Source: Malladi et al. (ICML 2023), Appendix A, and the settings of LM-BFF (Gao et al., ACL 2021), whose prompts and
//! few-shot files they use. The only place that knows these names; may not know how files are read or prompts are built.

use super::columns::ColumnNames;
use super::definition::{LabelWord, TaskDefinition};
use super::format::DataFormat;
use super::template::Template;
use crate::error::{Error, Result};

/// The built-in tasks, in the order of the table; each is also the name of its data directory.
pub const BUILTIN_NAMES: [&str; 14] =
    ["SST-2", "sst-5", "mr", "cr", "mpqa", "subj", "trec", "ag_news", "MRPC", "QQP", "QNLI", "RTE", "MNLI", "SNLI"];

/// One row: columns count from 0, a negative label column from the end.
struct Row {
    name: &'static str,
    format: Columns,
    template: &'static str,
    causal: Option<&'static str>,
    label_words: &'static [(&'static str, &'static str)],
    max_length: usize,
    first_limit: Option<usize>,
    other_limit: Option<usize>,
}

enum Columns {
    /// GLUE TSV: text columns, label column.
    Glue(&'static [usize], i64),
    /// Headerless CSV `label,text`.
    LabelText,
    /// Headerless CSV `label,title,text`.
    LabelTitleText,
}

const IT_WAS: &str = "*cls**sent_0*_It_was*mask*.*sep+*";
const THIS_IS: &str = "*cls**sent_0*_This_is*mask*.*sep+*";
const QUESTION: &str = "*cls**mask*:*+sent_0**sep+*";
const NEWS: &str = "*cls**sent_0*_This_article_is_about*mask*_news.*sep+*";
const PARAPHRASE: &str = "*cls**sent_0**mask*,*+sentl_1**sep+*";
const ENTAILMENT: &str = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*";
// The same for causal models, for templates with text after the mask; the words are ours.
const QUESTION_CAUSAL: &str = "*sent_0*_The_question_asks_for_a*mask*";
const PARAPHRASE_CAUSAL: &str = "*sent_0**+sent_1*_Do_both_say_the_same?*mask*";
const ANSWER_CAUSAL: &str = "*sent_0**+sent_1*_Does_this_answer_the_question?*mask*";
const ENTAILMENT_CAUSAL: &str = "*sent_0*_Is_it_true_that*+sentl-_1*?*mask*";
const TWO_WAY: &[(&str, &str)] = &[("0", "terrible"), ("1", "great")];
const FIVE_WAY: &[(&str, &str)] = &[("0", "terrible"), ("1", "bad"), ("2", "okay"), ("3", "good"), ("4", "great")];
const NO_YES: &[(&str, &str)] = &[("0", "No"), ("1", "Yes")];
const ENTAILED: &[(&str, &str)] = &[("not_entailment", "No"), ("entailment", "Yes")];
const THREE_WAY: &[(&str, &str)] = &[("contradiction", "No"), ("entailment", "Yes"), ("neutral", "Maybe")];
const QUESTION_TYPES: &[(&str, &str)] =
    &[("0", "Description"), ("1", "Entity"), ("2", "Expression"), ("3", "Human"), ("4", "Location"), ("5", "Number")];
const SUBJECTIVITY: &[(&str, &str)] = &[("0", "subjective"), ("1", "objective")];
const TOPICS: &[(&str, &str)] = &[("1", "world"), ("2", "sports"), ("3", "business"), ("4", "tech")];

#[rustfmt::skip]
const TABLE: [Row; 14] = {
    use Columns::{Glue, LabelText, LabelTitleText};
    const fn row(name: &'static str, format: Columns, (template, causal): (&'static str, Option<&'static str>),
                 label_words: &'static [(&'static str, &'static str)],
                 (max_length, first_limit, other_limit): (usize, Option<usize>, Option<usize>)) -> Row {
        Row { name, format, template, causal, label_words, max_length, first_limit, other_limit }
    }
    [
        row("SST-2",   Glue(&[0], 1),     (IT_WAS, None),                             TWO_WAY,        (128, None, None)),
        row("sst-5",   LabelText,         (IT_WAS, None),                             FIVE_WAY,       (128, None, None)),
        row("mr",      LabelText,         (IT_WAS, None),                             TWO_WAY,        (128, Some(110), Some(50))),
        row("cr",      LabelText,         (IT_WAS, None),                             TWO_WAY,        (128, Some(110), Some(50))),
        row("mpqa",    LabelText,         (IT_WAS, None),                             TWO_WAY,        (128, Some(110), None)),
        row("subj",    LabelText,         (THIS_IS, None),                            SUBJECTIVITY,   (128, Some(110), Some(50))),
        row("trec",    LabelText,         (QUESTION, Some(QUESTION_CAUSAL)),          QUESTION_TYPES, (128, Some(110), None)),
        row("ag_news", LabelTitleText,    (NEWS, None),                               TOPICS,         (256, Some(240), None)),
        row("MRPC",    Glue(&[3, 4], 0),  (PARAPHRASE, Some(PARAPHRASE_CAUSAL)),      NO_YES,         (128, None, None)),
        row("QQP",     Glue(&[3, 4], 5),  (PARAPHRASE, Some(PARAPHRASE_CAUSAL)),      NO_YES,         (128, None, None)),
        row("QNLI",    Glue(&[1, 2], -1), (ENTAILMENT, Some(ANSWER_CAUSAL)),          ENTAILED,       (128, None, None)),
        row("RTE",     Glue(&[1, 2], -1), (ENTAILMENT, Some(ENTAILMENT_CAUSAL)),      ENTAILED,       (256, Some(240), None)),
        row("MNLI",    Glue(&[8, 9], -1), (ENTAILMENT, Some(ENTAILMENT_CAUSAL)),      THREE_WAY,      (256, Some(240), None)),
        row("SNLI",    Glue(&[7, 8], -1), (ENTAILMENT, Some(ENTAILMENT_CAUSAL)),      THREE_WAY,      (256, None, None)),
    ]
};

/// The built-in task of that name, ignoring case. The error lists the names.
pub fn builtin(name: &str) -> Result<TaskDefinition> {
    let Some(row) = TABLE.iter().find(|row| row.name.eq_ignore_ascii_case(name)) else {
        return Err(Error::Unknown {
            what: "built-in task".into(),
            name: name.into(),
            hint: format!(
                "the paper's tasks are {} (`kernelview tasks` lists those with built-in sentences, too); for other data \
                 `analyze` and `kernel` take your own file with a template and label words, or a task TOML",
                BUILTIN_NAMES.join(", ")
            ),
        });
    };
    let format = match &row.format {
        Columns::Glue(texts, label) => DataFormat::Tsv { texts: texts.to_vec(), label: *label, header: true },
        Columns::LabelText => DataFormat::Csv { texts: vec![1], title: None, label: 0 },
        Columns::LabelTitleText => DataFormat::Csv { texts: vec![2], title: Some(1), label: 0 },
    };
    Ok(TaskDefinition {
        name: row.name.to_string(),
        template: Template::parse(row.template)?,
        causal_template: row.causal.map(Template::parse).transpose()?,
        label_words: row.label_words.iter().map(|(label, word)| LabelWord::new(label, word)).collect(),
        max_length: row.max_length,
        first_sentence_limit: row.first_limit,
        other_sentence_limit: row.other_limit,
        format,
        segments: false,
        columns: ColumnNames::default(),
        chat: false,
    })
}
