//! Tables: methods by tasks for every model, k and head; the paper's questions; prompt against no prompt; failures.

use super::summary::{ANALOGS, Answer, Group, Spread, head_title, methods};
use crate::evidence::{Cell, GridKey, Question, Reproduction, Table};
use crate::report::format::optimizer_title;
use crate::report::rows;

/// All tables.
pub(super) fn tables(groups: &[Group<'_>], grid: &Reproduction) -> Vec<Table> {
    let mut tables = Vec::new();
    for block in blocks(groups) {
        let key = block[0].key;
        let place = format!("{}, k = {}, {}", key.model, key.k, head_title(&key.head));
        tables.push(scores(&block, format!("Scores: {place}")));
        tables.extend(questions(&block, format!("The paper's questions: {place}")));
    }
    tables.extend(heads(groups));
    tables.extend(failures(grid));
    tables
}

/// Groups that differ only in their task.
fn blocks<'a, 'b>(groups: &'b [Group<'a>]) -> Vec<Vec<&'b Group<'a>>> {
    let mut blocks: Vec<Vec<&Group<'a>>> = Vec::new();
    for group in groups {
        let place = |g: &Group<'_>| (g.key.model.clone(), g.key.k, g.key.head.clone());
        match blocks.iter_mut().find(|b| place(b[0]) == place(group)) {
            Some(block) => block.push(group),
            None => blocks.push(vec![group]),
        }
    }
    blocks
}

fn columns(first: &str, block: &[&Group<'_>]) -> Vec<String> {
    [first.to_owned()].into_iter().chain(block.iter().map(|g| g.key.task.clone())).collect()
}

fn text(text: String) -> Cell {
    Cell::Text(text)
}

/// `87.6 (2.1)`.
fn spread(found: Option<Spread>) -> String {
    let tenth = |share: f64| format!("{:.1}", 100.0 * share);
    match found {
        None => "–".into(),
        Some(Spread { mean, deviation: None }) => tenth(mean),
        Some(Spread { mean, deviation: Some(deviation) }) => format!("{} ({})", tenth(mean), tenth(deviation)),
    }
}

fn scores(block: &[&Group<'_>], title: String) -> Table {
    let mut rows: Vec<Vec<Cell>> = methods(block)
        .into_iter()
        .map(|method| {
            let cells = block.iter().map(|g| text(spread(g.score(method))));
            [Cell::from(method)].into_iter().chain(cells).collect()
        })
        .collect();
    let majority = |g: &&Group<'_>| {
        let values: Vec<f64> = g.results.iter().map(|r| r.majority_accuracy).collect();
        text(spread(Spread::of(&values)))
    };
    rows.push([Cell::from("most frequent class")].into_iter().chain(block.iter().map(majority)).collect());
    let seeds = |g: &&Group<'_>| text(g.results.len().to_string());
    rows.push([Cell::from("seeds")].into_iter().chain(block.iter().map(seeds)).collect());
    Table { title, columns: columns("method", block), rows }
}

/// Figures and answers; `None` if nothing was fine-tuned.
fn questions(block: &[&Group<'_>], title: String) -> Option<Table> {
    let mut rows = Vec::new();
    for analog in ANALOGS {
        let (tuned, _, optimizer) = analog;
        if !methods(block).contains(&tuned) {
            continue;
        }
        for question in Question::ALL {
            let cell = |g: &&Group<'_>| {
                let shown = |v| rows::figure(question, v);
                text(g.answer(question, analog).map_or_else(
                    || "n/a".into(),
                    |Answer { value, interval, outcome, needed, over_seeds }| {
                        let interval = interval.map_or_else(
                            || "unbounded".into(),
                            |(low, high)| format!("{} to {}", shown(low), shown(high)),
                        );
                        let unit = if over_seeds { "seeds" } else { "examples" };
                        let needed =
                            needed.map_or_else(String::new, |n| format!(" (about {} {unit})", rows::rounded_up(n)));
                        format!("{} ({interval}), {}{needed}", shown(value), outcome.name())
                    },
                ))
            };
            let name = format!("{}, {}", optimizer_title(optimizer), rows::question(question));
            rows.push([text(name)].into_iter().chain(block.iter().map(cell)).collect());
        }
    }
    (!rows.is_empty()).then(|| Table { title, columns: columns("question", block), rows })
}

/// Means over the tasks common to all heads, if there are several.
fn heads(groups: &[Group<'_>]) -> Option<Table> {
    let mut names: Vec<&str> = Vec::new();
    for group in groups {
        if !names.contains(&group.key.head.as_str()) {
            names.push(&group.key.head);
        }
    }
    if names.len() < 2 {
        return None;
    }
    let place = |g: &Group<'_>| (g.key.model.clone(), g.key.task.clone(), g.key.k);
    let has_all = |g: &&Group<'_>| {
        let there =
            |name: &&str| groups.iter().any(|o| o.key.head == *name && place(o) == place(g) && !o.results.is_empty());
        names.iter().all(there)
    };
    let common: Vec<&Group<'_>> = groups.iter().filter(has_all).collect();
    let mut rows = Vec::new();
    for method in methods(&common) {
        let of_head = |name: &&str| {
            let values: Vec<f64> =
                common.iter().filter(|g| g.key.head == *name).filter_map(|g| g.score(method)).map(|s| s.mean).collect();
            text(Spread::of(&values).map_or_else(|| "–".into(), |s| format!("{:.1}", 100.0 * s.mean)))
        };
        rows.push([Cell::from(method)].into_iter().chain(names.iter().map(of_head)).collect());
    }
    let count = common.len() / names.len();
    let columns = [String::from("method")].into_iter().chain(names.iter().map(|n| head_title(n))).collect();
    (!rows.is_empty()).then(|| Table {
        title: format!("Heads and adapters side by side: means over {count} settings"),
        columns,
        rows,
    })
}

fn failures(grid: &Reproduction) -> Option<Table> {
    // Cells that differ only in their seed usually fail for the same reason, and share a row.
    let mut failed: Vec<(&GridKey, &str, Vec<String>)> = Vec::new();
    for (key, why) in grid.cells.iter().filter_map(|c| Some((&c.key, c.error.as_deref()?))) {
        let same =
            |f: &&mut (&GridKey, &str, Vec<String>)| GridKey { seed: f.0.seed, ..key.clone() } == *f.0 && f.1 == why;
        match failed.iter_mut().find(same) {
            Some((_, _, seeds)) => seeds.push(key.seed.to_string()),
            None => failed.push((key, why, vec![key.seed.to_string()])),
        }
    }
    let rows: Vec<Vec<Cell>> = failed
        .into_iter()
        .map(|(key, why, seeds)| {
            vec![
                Cell::from(key.model.as_str()),
                Cell::from(key.task.as_str()),
                text(key.k.to_string()),
                text(seeds.join(", ")),
                Cell::from(key.head.as_str()),
                Cell::from(why),
            ]
        })
        .collect();
    let columns = ["model", "task", "k", "seeds", "head", "why"].map(str::to_owned).to_vec();
    (!rows.is_empty()).then(|| Table { title: "Failed cells".into(), columns, rows })
}
