//! Metrics that the user has excluded by name.

/// Patterns of names; `*` matches any text.
#[derive(Clone, Debug, Default)]
pub struct Ignored(Vec<String>);

impl Ignored {
    /// From patterns such as `model.digest` or `fine_tuning.*`.
    pub fn new(patterns: &[String]) -> Self {
        Self(patterns.to_vec())
    }

    /// Whether a metric of this name is excluded.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, name))
    }

    /// The patterns that match none of the names, probably typing errors.
    pub fn unused<'a>(&'a self, names: &[&str]) -> Vec<&'a str> {
        self.0.iter().map(String::as_str).filter(|p| !names.iter().any(|n| fits(p, n))).collect()
    }
}

/// The parts between stars must occur in order; the first and last are anchored at the ends.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name) in
            [("a.b", "a.b"), ("a.*", "a.b.c"), ("*.c", "a.b.c"), ("a*c", "ac"), ("*b*", "abc"), ("*", "")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a.b", "a.b.c"), ("a.*", "b.a."), ("*.c", "a.b.cd"), ("a*a", "a"), ("a*b*c", "acb")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
