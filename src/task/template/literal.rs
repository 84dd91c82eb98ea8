//! Literal text of a template: its syntax and its meaning.

/// The text that a literal represents: `_` is a space, except in names of tokens (`names`, longest first), and a backslash
/// escapes the next character.
pub fn literal_text(literal: &str, names: &[String]) -> String {
    let mut text = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(character) = rest.chars().next() {
        let underscored = |name: &&String| name.contains('_') && name.chars().any(|other| other != '_');
        if let Some(name) = names.iter().filter(underscored).find(|name| rest.starts_with(name.as_str())) {
            text.push_str(name);
            rest = &rest[name.len()..];
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match character {
            '_' => text.push(' '),
            '\\' => {
                let next = rest.chars().next().unwrap_or('\\');
                rest = &rest[next.len_utf8().min(rest.len())..];
                text.push(match next {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    plain => plain,
                });
            }
            plain => text.push(plain),
        }
    }
    text
}

/// A text written as a literal.
pub(super) fn literal_source(text: &str) -> String {
    let mut source = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' => source.push('_'),
            '\n' => source.push_str("\\n"),
            '\t' => source.push_str("\\t"),
            '\r' => source.push_str("\\r"),
            '_' | '*' | '\\' => source.extend(['\\', character]),
            plain => source.push(plain),
        }
    }
    source
}

/// A literal in canonical form, with spaces, newlines and tabs as in [`literal_source`].
pub(super) fn normal_literal(piece: &str) -> Result<String, String> {
    let mut source = String::with_capacity(piece.len());
    let mut characters = piece.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(next @ ('n' | 't' | 'r' | '_' | '*' | '\\')) => source.extend(['\\', next]),
                Some(next) => {
                    return Err(format!("unknown escape `\\{next}`; known are \\n, \\t, \\r, \\_, \\* and \\\\"));
                }
                None => return Err("it ends in a single `\\`; write `\\\\` for one".to_string()),
            },
            '_' => source.push('_'),
            plain => source.push_str(&literal_source(&plain.to_string())),
        }
    }
    Ok(source)
}
