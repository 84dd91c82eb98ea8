//! The requirements of JUnit readers, the strictest of each kind, as our own schema.
//!
//! Jenkins' xUnit plugin validates: an attribute or element that is not in its schema, or a missing count, invalidates the
//! whole file. GitLab merges cases with the same class and name, and shows the text of a failure. GitHub's readers show its
//! message, and add up the counts.

use std::collections::{BTreeMap, BTreeSet};

/// An element: its attributes (required ones are marked by `!`), and the elements that it may contain.
struct Element {
    name: &'static str,
    attributes: &'static [&'static str],
    children: &'static [&'static str],
    text: bool,
}

const fn element(
    name: &'static str,
    attributes: &'static [&'static str],
    children: &'static [&'static str],
    text: bool,
) -> Element {
    Element { name, attributes, children, text }
}

const SCHEMA: [Element; 6] = [
    element("testsuites", &["name", "time", "tests", "failures", "errors"], &["testsuite"], false),
    element(
        "testsuite",
        &["name!", "tests!", "failures!", "errors!", "skipped", "time", "timestamp", "hostname", "id", "package"],
        &["testcase"],
        false,
    ),
    element("testcase", &["name!", "classname!", "time"], &["failure", "error", "skipped"], false),
    element("failure", &["message!", "type!"], &[], true),
    element("error", &["message!", "type!"], &[], true),
    element("skipped", &["message", "type"], &[], true),
];

/// An element that was read.
#[derive(Debug, Default)]
pub struct Node {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub children: Vec<Node>,
    pub text: String,
}

/// Reads a file without an XML library, and checks it against the schema and the readers' requirements.
pub fn check(text: &str) -> Node {
    let root = parse(text);
    assert_eq!(root.name, "testsuites");
    valid(&root);
    let mut seen = BTreeSet::new();
    let mut totals = BTreeMap::new();
    for suite in &root.children {
        let count = |what: fn(&Node) -> bool| suite.children.iter().filter(|case| what(case)).count();
        let has =
            |kind: &'static str| suite.children.iter().filter(|c| c.children.iter().any(|e| e.name == kind)).count();
        let counts = [
            ("tests", count(|_| true)),
            ("failures", has("failure")),
            ("errors", has("error")),
            ("skipped", has("skipped")),
        ];
        for (what, found) in counts {
            assert_eq!(suite.attributes[what], found.to_string(), "{what} of {suite:?}");
            *totals.entry(what).or_insert(0) += found;
        }
        for case in &suite.children {
            let key = (&case.attributes["classname"], &case.attributes["name"]);
            assert!(seen.insert(key), "GitLab would take two cases for one: {key:?}");
            for outcome in case.children.iter().filter(|e| e.name != "skipped") {
                assert!(!outcome.text.is_empty(), "GitLab would show nothing: {outcome:?}");
            }
            assert!(case.children.len() < 2, "one outcome: {case:?}");
        }
    }
    for what in ["tests", "failures", "errors"] {
        assert_eq!(root.attributes[what], totals.get(what).copied().unwrap_or(0).to_string(), "{what} of all");
    }
    root
}

fn valid(node: &Node) {
    let schema = SCHEMA.iter().find(|e| e.name == node.name).unwrap_or_else(|| panic!("unknown element {node:?}"));
    let known: BTreeSet<&str> = schema.attributes.iter().map(|a| a.trim_end_matches('!')).collect();
    for (name, value) in &node.attributes {
        assert!(
            known.contains(name.as_str()),
            "attribute `{name}` is not allowed to appear in element `{}`",
            node.name
        );
        let number = match name.as_str() {
            "tests" | "failures" | "errors" | "skipped" => value.parse::<u32>().is_ok(),
            // Three decimals at most, as Surefire writes times.
            "time" => value.split_once('.').is_some_and(|(s, ms)| s.parse::<u64>().is_ok() && ms.len() <= 3),
            _ => true,
        };
        assert!(number, "{name}=\"{value}\" of {}", node.name);
    }
    for required in schema.attributes.iter().filter_map(|a| a.strip_suffix('!')) {
        assert!(node.attributes.contains_key(required), "{} without {required}", node.name);
    }
    assert!(schema.text || node.text.is_empty(), "text in {node:?}");
    for child in &node.children {
        assert!(schema.children.contains(&child.name.as_str()), "{} in {}", child.name, node.name);
        valid(child);
    }
}

fn parse(text: &str) -> Node {
    let mut rest = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").expect("an XML declaration");
    let mut open = vec![Node::default()];
    while let Some(start) = rest.find('<') {
        open.last_mut().expect("the file").text += rest[..start].trim();
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        if let Some(name) = tag.strip_prefix('/') {
            close(&mut open, name);
        } else {
            let (body, empty) = tag.strip_suffix('/').map_or((tag, false), |body| (body, true));
            let name = body.split_whitespace().next().expect("a tag has a name").to_owned();
            open.push(Node { attributes: attributes(&body[name.len()..]), name: name.clone(), ..Node::default() });
            if empty {
                close(&mut open, &name);
            }
        }
        rest = &rest[end + 1..];
    }
    assert_eq!(open.len(), 1, "left open");
    open.pop().and_then(|mut file| file.children.pop()).expect("a root")
}

fn close(open: &mut Vec<Node>, name: &str) {
    let node = open.pop().expect("an open tag");
    assert_eq!(node.name, name, "closing tag");
    open.last_mut().expect("the file").children.push(node);
}

fn attributes(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("an attribute's value");
        let (value, after) = after.split_once('"').expect("a closing quote");
        assert!(found.insert(name.trim().to_owned(), value.to_owned()).is_none(), "{name} twice");
        rest = after.trim();
    }
    found
}
