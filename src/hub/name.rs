//! Names of models on the hub, and the origin of a directory in the cache.

use std::fmt;
use std::path::Path;

/// `name`, `org/name`, either with `@revision`: a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// With the organization, if there is one.
    pub model: String,
    /// `main` unless given.
    pub revision: String,
}

impl HubName {
    /// Parses a name by the hub's rules; `None` for what can only be a path. Every part is safe as a path component.
    pub fn parse(text: &str) -> Option<Self> {
        let (model, revision) = text.split_once('@').unwrap_or((text, "main"));
        let is_name = |part: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            !part.is_empty() && part.len() <= 96 && part.bytes().all(plain) && !part.starts_with(['.', '-'])
        };
        let is_model = model.split('/').count() <= 2 && model.split('/').all(|p| is_name(p) && !p.contains("--"));
        let is_revision = revision.split('/').all(is_name);
        (is_model && is_revision).then(|| Self { model: model.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            "main" => write!(f, "{}", self.model),
            revision => write!(f, "{}@{revision}", self.model),
        }
    }
}

/// A model on the hub at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// With the organization, if there is one.
    pub model: String,
    /// The commit's hash.
    pub commit: String,
}

impl Origin {
    /// The origin of a directory in a Hugging Face cache, `…/models--org--name/snapshots/COMMIT`.
    pub fn of(directory: &Path) -> Option<Self> {
        let part = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        let snapshots = directory.parent().filter(|p| part(p).is_some_and(|name| name == "snapshots"))?;
        let model = part(snapshots.parent()?)?.strip_prefix("models--")?.replace("--", "/");
        Some(Self { model, commit: part(directory)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        let of = |text| HubName::parse(text).map(|n| (n.model, n.revision));
        let both = |model: &str, revision: &str| Some((model.to_owned(), revision.to_owned()));
        assert_eq!(of("roberta-base"), both("roberta-base", "main"));
        assert_eq!(of("org/name.v2@refs/pr/3"), both("org/name.v2", "refs/pr/3"));
        for path in
            ["./model", "../model", "a/b/c", "/model", "model/", "a\\b", "", "a@", "@main", "a@../b", "a/..", "a--b"]
        {
            assert_eq!(of(path), None, "{path}");
        }
        for text in ["roberta-base", "org/name", "org/name@v1"] {
            assert_eq!(HubName::parse(text).expect("a name").to_string(), text);
        }
    }

    #[test]
    fn a_snapshot_says_where_it_came_from() {
        let of = |path| Origin::of(Path::new(path)).map(|o| (o.model, o.commit));
        let found = of("/cache/hub/models--org--name/snapshots/0123abcd");
        assert_eq!(found, Some(("org/name".into(), "0123abcd".into())));
        assert_eq!(of("/cache/hub/models--name/snapshots/0123"), Some(("name".into(), "0123".into())));
        assert_eq!(of("/cache/models--org--name/other/0123"), None);
        assert_eq!(of("snapshots/0123"), None);
    }
}
