//! Embeds a claim's statement, a separate document, in a section of the report.

/// Level of the statement's top headings in a claim's section.
const LEVEL: usize = 3;

/// The statement with its headings moved below that of its section; code blocks are unchanged.
pub(super) fn fitted(statement: &str) -> String {
    let highest = lines(statement).filter_map(|(line, code)| level(line, code)).min().unwrap_or(LEVEL);
    let fit = |(line, code): (&str, bool)| match level(line, code) {
        Some(level) => {
            // Headings have at most six levels.
            let moved = (level + LEVEL - highest).min(6);
            format!("{}{}", "#".repeat(moved), &line.trim_start()[level..])
        }
        None => line.trim_end().to_owned(),
    };
    lines(statement).map(fit).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Lines, and whether each is code.
fn lines(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut fence: Option<&str> = None;
    text.lines().map(move |line| {
        let start = line.trim_start();
        let here = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        let code = fence.is_some() || here.is_some() || line.starts_with("    ");
        match (fence, here) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            _ => {}
        }
        (line, code)
    })
}

/// Level of a heading.
fn level(line: &str, code: bool) -> Option<usize> {
    let hashes = line.trim_start().bytes().take_while(|b| *b == b'#').count();
    let rest = &line.trim_start()[hashes..];
    (!code && (1..=6).contains(&hashes) && (rest.is_empty() || rest.starts_with(' '))).then_some(hashes)
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn headings_go_below_the_section_and_code_stays() {
        let text = "Line.\n\n# A\n## B\n```text\n# code\n```\n#no heading\n    # indented code\n###### Deep\n";
        let expected = "Line.\n\n### A\n#### B\n```text\n# code\n```\n#no heading\n    # indented code\n###### Deep";
        assert_eq!(fitted(text), expected);
        assert_eq!(fitted("#### A\ntext  \n##### B"), "### A\ntext\n#### B");
        assert_eq!(fitted(""), "");
    }
}
