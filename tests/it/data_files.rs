//! Data files as found in practice: quoted by pandas or a spreadsheet, without a header, with other names, as JSON lines. Rows
//! are read as by pandas, or refused by number.

use std::path::Path;

use kernelview::error::Error;
use kernelview::task::{ColumnNames, DataFormat, Example, Overrides, TaskDefinition, parse_examples};

fn own(template: &str) -> TaskDefinition {
    TaskDefinition::new("own", template, "0=bad,1=good").unwrap()
}

fn texts(file: &str, bytes: &[u8], task: &TaskDefinition) -> Result<Vec<Vec<String>>, Error> {
    let examples = parse_examples(Path::new(file), bytes, task)?;
    Ok(examples.into_iter().map(|Example { texts, .. }| texts).collect())
}

/// The texts of a file with one text per row.
fn read(file: &str, bytes: &[u8]) -> Vec<String> {
    texts(file, bytes, &own("*sent_0**mask*")).unwrap().into_iter().map(|mut texts| texts.remove(0)).collect()
}

fn refused(file: &str, bytes: &[u8], task: &TaskDefinition) -> String {
    let error = texts(file, bytes, task).expect_err("refused");
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[test]
fn quoted_files_are_read_as_pandas_writes_them() {
    // pandas.DataFrame.to_csv(sep="\t"): a tab, a quotation mark, a line end, and a plain text.
    let tsv = b"label\ttext\n1\t\"a\ttab\"\n0\t\"she said \"\"no\"\"\"\n1\t\"two\nlines\"\n0\tit's 5\" wide\n";
    let right = ["a\ttab", "she said \"no\"", "two\nlines", "it's 5\" wide"];
    assert_eq!(read("t.tsv", tsv), right);
    assert_eq!(
        read("t.csv", &String::from_utf8_lossy(tsv).replace("a\ttab", "a,tab").replace('\t', ",").into_bytes())[0],
        "a,tab"
    );
    // Every field quoted, a byte order mark, Windows line ends, a last line without an end.
    assert_eq!(read("t.tsv", b"\xef\xbb\xbf\"label\"\t\"text\"\r\n\"1\"\t\"fine\"\r\n\"0\"\t\"odd\""), ["fine", "odd"]);
    let rows = parse_examples(Path::new("t.tsv"), tsv, &own("*sent_0**mask*")).unwrap();
    assert_eq!(rows.iter().map(|example| example.row).collect::<Vec<_>>(), [2, 3, 4, 6]);
}

#[test]
fn rows_that_would_be_read_wrongly_are_refused_by_number() {
    let task = own("*sent_0**mask*");
    for (file, bytes, said) in [
        ("t.csv", &b"label,text\n1,fine\n0,great, and funny\n"[..], "row 3: has 3 fields, but the file has 2 columns"),
        ("t.tsv", b"label\ttext\n1\tgreat\tand funny\n", "row 2: has 3 fields, but the file has 2 columns"),
        ("t.csv", b"label,text\n1, \"fine\"\n", "row 2: a space precedes a quotation mark"),
        (
            "t.csv",
            b"label,text\n1,\"fine\" he said\n",
            "row 2: a field begins with a quotation mark that is closed before",
        ),
        (
            "t.tsv",
            b"label\ttext\n1\tfine\n0\t\"open\n1\tother\n",
            "row 3: a quotation mark opens here and is not closed",
        ),
        ("t.csv", b"label,text\n1,fi\0ne\n", "row 2: contains a NUL character"),
        ("t.csv", b"\xff\xfel\0a\0b\0", "is UTF-16 text"),
        ("t.jsonl", b"{\"text\": \"a\", \"label\": 1}\n[1]\n", "row 2: is not a JSON object"),
        ("t.jsonl", b"{\"text\": \"a\"}\n", "row 1: has the fields `text`, but `label` is missing"),
        ("t.jsonl", b"{\"text\": [\"a\"], \"label\": 1}\n", "row 1: `text` must be a text or a number"),
    ] {
        let message = refused(file, bytes, &task);
        assert!(message.contains(said), "{message}");
    }
    let mr = TaskDefinition { format: DataFormat::Csv { texts: vec![1], title: None, label: 0 }, ..task };
    let message = refused("t.csv", b"1,fine\n0,great, and funny\n", &mr);
    assert!(message.contains("row 2: has 3 fields, but the file has 2 columns"), "{message}");
}

#[test]
fn a_second_text_is_read_only_where_the_template_asks_for_it() {
    let bytes = b"text\ttext2\tlabel\nfine\t\t1\nodd\tmore\t0\n";
    assert_eq!(texts("t.tsv", bytes, &own("*sent_0**mask*")).unwrap(), [["fine"], ["odd"]]);
    let message = refused("t.tsv", bytes, &own("*sent_0**mask**sent_1*"));
    assert!(message.contains("row 2: the column `text2` is empty"), "{message}");
}

#[test]
fn columns_have_the_names_or_numbers_that_are_given() {
    let with = |columns: &str| {
        own("*sent_0**mask*").with(&Overrides { columns: Some(columns.to_string()), ..Overrides::default() })
    };
    let named = with("text=sentence,label=class").unwrap();
    assert_eq!(texts("t.csv", b"idx,class,sentence\n7,1,fine\n", &named).unwrap(), [["fine"]]);
    assert_eq!(
        texts(
            "t.jsonl",
            b"{\"sentence\": \"fine\", \"class\": 1}\n\n{\"class\": \"0\", \"sentence\": \"odd\"}\n",
            &named
        )
        .unwrap(),
        [["fine"], ["odd"]]
    );
    // CoLA's layout has no header.
    let numbered = with("text=3,label=1").unwrap();
    let cola = b"gj04\t1\t\tOur friends.\ngj04\t0\t*\tThey slept it.\n";
    assert_eq!(texts("t.tsv", cola, &numbered).unwrap(), [["Our friends."], ["They slept it."]]);
    for wrong in ["text", "text=", "words=a", "text=a,text=b", "text=3,label=label", "text=3"] {
        let message = with(wrong).expect_err(wrong).to_string();
        assert!(message.contains("columns"), "{message}");
    }
    assert_eq!(ColumnNames::default().name("label"), "label");
}

#[test]
fn numbers_are_texts_as_they_are_written() {
    let rows = b"{\"text\": 12345678901234567890123, \"label\": 1}\n{\"label\": 0, \"text\": 1.50}\n{\"text\": 1e3, \"label\": 0}\n";
    assert_eq!(read("t.jsonl", rows), ["12345678901234567890123", "1.50", "1e3"]);
    let nested = own("*sent_0**mask*").with(&Overrides { columns: Some("text=a.1.b".into()), ..Overrides::default() });
    let rows = b"{\"a\": [0, {\"b\": 2.0}], \"label\": 1}\n";
    assert_eq!(texts("t.jsonl", rows, &nested.unwrap()).unwrap(), [["2.0"]]);
}

#[test]
fn a_column_of_exactly_the_name_comes_before_others() {
    assert_eq!(read("t.csv", b"Text,text,label\nA,b,1\n"), ["b"]);
    assert_eq!(read("t.csv", b"TEXT,Label\nA,1\n"), ["A"]);
}

#[test]
fn a_task_file_says_whether_there_is_a_header() {
    let cola = |header| {
        let format = DataFormat::Tsv { texts: vec![3], label: 1, header };
        TaskDefinition { format, ..own("*sent_0**mask*") }
    };
    let bytes = b"gj04\t1\t\tOur friends.\ngj04\t0\t*\tThey slept it.\n";
    assert_eq!(texts("t.tsv", bytes, &cola(false)).unwrap().len(), 2);
    let message = refused("t.tsv", bytes, &cola(true));
    assert!(message.contains("row 1: should be a header line") && message.contains("header = false"), "{message}");
}
