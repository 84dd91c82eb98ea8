//! The table of docs/architectures.md: how far this program's values are from those of transformers and PEFT, for every
//! architecture and quantity. A figure there is a bound for every processor that rounds single precision like the one that made
//! the values; the test measures again and fails if a bound is exceeded (another number of threads may round better than the
//! one that made it). `KERNELVIEW_BLESS=1` writes the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::all_linear;
use crate::common::{Golden, relative_error, rounds_as_golden};
use crate::drawn;
use crate::parity::{self, BESIDE, Beside, ELSEWHERE, Errors, SUMS};
use crate::parts::{golden, networks, structured};
use kernelview::jacobian::outputs;
use kernelview::kernel::Formula;

use tch::Kind;

/// Tolerance of kernels with softmax in single precision: among several hundred thousand gradients rounded to it, one may be so
/// close to the middle of two numbers that it is rounded to the other side.
const EAGER: f64 = 1e-8;

const BEGIN: &str = "<!-- errors -->";
const END: &str = "<!-- /errors -->";

const HEADER: &str = "\
| | double: logits | SGD | asymmetric | SignGD | shares | single: logits | SGD | asymmetric | SignGD | PEFT: logits | kernel |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// A bound is the power of ten above the measured error times this factor, because other processors sum in another order.
const MARGIN: [f64; 11] = [3.0, 3.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0, 3.0, 3.0];

/// No bound is smaller: at the level of round-off another order of sums can have six times the error (GPT-NeoX's adapters:
/// 3e-16 by AVX-512, 2e-15 by AVX2).
const FINEST: [f64; 11] = [1e-14, 1e-12, 1e-12, 1e-12, 1e-12, 1e-5, 1e-5, 1e-5, 1e-5, 1e-14, 1e-13];

/// Columns with transformers' own roundings.
const ROUNDED: usize = 5;

/// Columns of sign kernels in single precision: the sign of an entry that is only round-off depends on the number of threads,
/// so they are shown as once measured, and not compared.
const BY_CHANCE: [usize; 2] = [7, 8];

/// Largest errors of an architecture, in the order of the columns.
type Row = [f64; MARGIN.len()];

/// The row for a `model_type`: RoBERTa's network has three names.
fn row_of(architecture: &str) -> String {
    match architecture {
        "roberta" | "xlm-roberta" | "camembert" => "roberta, xlm-roberta, camembert".to_owned(),
        one => one.to_owned(),
    }
}

#[derive(Default)]
struct Table(BTreeMap<String, Row>);

impl Table {
    fn take(&mut self, architecture: &str, first: usize, errors: &[f64]) {
        let row = self.0.entry(row_of(architecture)).or_default();
        for (most, error) in row[first..].iter_mut().zip(errors) {
            assert!(error.is_finite(), "{architecture}");
            *most = most.max(*error);
        }
    }

    fn take_double(&mut self, architecture: &str, e: Errors) {
        self.take(architecture, 0, &[e.logits, e.sgd, e.asymmetric, e.signgd, e.shares]);
    }

    fn take_single(&mut self, architecture: &str, e: Errors) {
        self.take(architecture, 5, &[e.logits, e.sgd, e.asymmetric, e.signgd]);
    }
}

/// A network of `parts/` in single precision.
fn in_single_precision(golden: &Golden) -> Errors {
    let (p, examples) = (&golden.parameters, golden.examples());
    let gram = structured(p, &examples, (1, 4096, 1 << 30));
    let error = |formula: Formula| {
        relative_error(gram.matrix(formula).expect("computed"), &golden.kernel(&format!("kernel.{formula}")))
    };
    Errors {
        logits: relative_error(&outputs(p, &examples, 1), &golden.values["logits"]),
        sgd: error(Formula::Sgd),
        asymmetric: error(Formula::Asymmetric),
        signgd: error(Formula::Signgd),
        shares: 0.0,
    }
}

fn measure() -> Table {
    let mut table = Table::default();
    let drawn = drawn::all();
    for (is_eager, sums) in [(false, SUMS), (true, EAGER)] {
        parity::check(
            sums,
            drawn.iter().filter(|network| network.is_eager() == is_eager).map(|network| {
                let errors = network.errors(Kind::Double, 1);
                table.take_double(network.architecture(), errors);
                (network.settings(), errors)
            }),
        );
    }
    for network in drawn {
        table.take_single(network.architecture(), network.errors(Kind::Float, 2));
    }
    for name in networks() {
        let golden = golden(&name, Kind::Float);
        let architecture = golden.model.facts().architecture;
        table.take_single(architecture, in_single_precision(&golden));
        // This release of transformers makes DeBERTa's newer head with other shapes.
        if name != "deberta-keys" {
            table.take_double(architecture, parity::errors(&name, 1));
        }
    }
    for beside in BESIDE.iter().map_while(|name| Beside::load(name)) {
        table.take_double(beside.model.facts().architecture, beside.errors(1));
    }
    for (name, made) in all_linear::all() {
        let golden = Golden::read(&all_linear::folder().join(&name), Kind::Double);
        let (logits, kernel) = made.errors(&golden, 1);
        table.take(golden.model.facts().architecture, 9, &[logits, kernel]);
    }
    table
}

/// Text in the table.
fn bound(column: usize, error: f64) -> String {
    if error == 0.0 {
        return "equal".to_owned();
    }
    format!("1e{}", (error * MARGIN[column]).max(FINEST[column]).log10().ceil())
}

fn printed(table: &Table) -> String {
    let line = |(name, row): (&String, &Row)| {
        let cells: Vec<String> = row.iter().enumerate().map(|(column, error)| bound(column, *error)).collect();
        format!("| {name} | {} |\n", cells.join(" | "))
    };
    HEADER.to_owned() + &table.0.iter().map(line).collect::<String>()
}

/// The page's bounds, by architecture; `None` if values are equal.
fn bounds(page: &str) -> BTreeMap<String, Vec<Option<f64>>> {
    let rows = page.lines().skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim));
    rows.map(|mut cells| {
        let name = cells.next().expect("a name").to_owned();
        let bounds = cells.map(|cell| (cell != "equal").then(|| cell.parse().expect("a bound"))).collect();
        (name, bounds)
    })
    .collect()
}

#[test]
fn errors_are_within_the_table_of_the_page() {
    let table = measure();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architectures.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (inside, after) = rest.split_once(END).expect("where the table ends");
    if std::env::var_os("KERNELVIEW_BLESS").is_some() {
        let text = format!("{before}{BEGIN}\n{}{END}{after}", printed(&table));
        fs::write(&path, text).expect("the page is writable");
        return;
    }
    let alike = rounds_as_golden();
    let bounds = bounds(inside.trim());
    assert!(bounds.keys().eq(table.0.keys()), "docs/architectures.md; KERNELVIEW_BLESS=1 writes the table");
    if !alike {
        // The statement of docs/architectures.md about other processors.
        let worst = |column: usize| table.0.values().map(|row| row[column]).fold(0.0, f64::max);
        println!("elsewhere: logits {:.1e}, kernels {:.1e}", worst(0), worst(1).max(worst(2)));
    }
    let mut wrong = Vec::new();
    for (name, row) in &table.0 {
        let columns = row.iter().zip(&bounds[name]).enumerate().filter(|(column, _)| !BY_CHANCE.contains(column));
        for (column, (error, bound)) in columns {
            let most = match bound {
                _ if column < ROUNDED && !alike => ELSEWHERE,
                None => 0.0,
                Some(bound) => *bound,
            };
            if *error > most {
                wrong.push(format!("{name}, column {}: {error:.1e}, the page says {bound:?}", column + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "KERNELVIEW_BLESS=1 writes the table\n{}", wrong.join("\n"));
}
