//! The results of a run of the suite, in words.

use crate::evidence::{ClaimVerdict, Fate, Figure, MutantResult, Verification};
use crate::report::format::{code, fraction, join, plain};

/// The verdicts in one paragraph.
pub(super) fn paragraph(verification: &Verification) -> String {
    let claims = &verification.claims;
    let failed_claims: Vec<String> = names(verification, false);
    let all = claims.len() + failed_claims.len();
    let of =
        |verdict| -> Vec<String> { claims.iter().filter(|c| c.verdict == verdict).map(|c| linked(&c.id)).collect() };
    let holding = of(ClaimVerdict::Holds).len();
    let mut sentences = vec![match (all, holding) {
        (0, _) => "No claim was examined.".to_owned(),
        (1, 1) => "The one claim examined holds.".to_owned(),
        (all, holding) if all == holding => format!("All {all} claims hold."),
        (all, holding) => format!("Of {all} claim{}, {}.", plural(all), hold(holding)),
    }];
    let mut tell = |ids: Vec<String>, one: &str, many: &str| {
        if !ids.is_empty() {
            let text = if ids.len() == 1 { one } else { many };
            sentences.push(format!("{} {text}.", join(&ids)));
        }
    };
    tell(of(ClaimVerdict::Violated), "is **violated**", "are **violated**");
    tell(
        of(ClaimVerdict::Broken),
        "proves nothing: a **control passed** that must fail, or there was none",
        "prove nothing: a **control passed** that must fail, or there was none",
    );
    tell(
        failed_claims,
        "could **not be examined**: its experiment failed",
        "could **not be examined**: their experiments failed",
    );
    tell(
        of(ClaimVerdict::Underpowered),
        "is undecided: an interval is too wide",
        "are undecided: an interval of each is too wide",
    );
    tell(
        of(ClaimVerdict::NotApplicable),
        "does not apply: a hypothesis is not met",
        "do not apply: a hypothesis of each is not met",
    );
    sentences.extend(mutants(verification));
    sentences.push(if verification.succeeded() { "The run succeeded." } else { "**The run failed.**" }.to_owned());
    sentences.join(" ")
}

/// The outcome for mutants, if any: those that must be noticed, graded ones that must not be, those that a violated claim
/// cannot judge, and apart from these the ones that measure nothing.
pub(super) fn mutants(verification: &Verification) -> Option<String> {
    let measured = || verification.fates().filter(|(m, _)| !m.of_prediction);
    let count = |among: &dyn Fn(&MutantResult, Fate) -> bool| measured().filter(|(m, f)| among(m, *f)).count();
    let failed = names(verification, true).len();
    // At its tolerance a graded one may come out either way.
    let all = failed + count(&|m, fate| fate != Fate::Undecided && m.must_be_noticed());
    let small = count(&|m, fate| fate != Fate::Undecided && m.must_pass());
    let undecided = verification.fates().filter(|(_, fate)| *fate == Fate::Undecided).count();
    let mut sentences = Vec::new();
    if all + small > 0 {
        let noticed = all - failed;
        let text = match count(&|_, fate| fate == Fate::Survived) {
            0 if all == 0 => "No mutant had to be noticed".to_owned(),
            0 if failed == 0 && all == 1 => "The one mutant was noticed".to_owned(),
            0 if failed == 0 => format!("All {all} mutants were noticed"),
            0 => format!("Of {all} mutants, {noticed} {} noticed", if noticed == 1 { "was" } else { "were" }),
            1 => format!("**1 of {all} mutants survived**"),
            n => format!("**{n} of {all} mutants survived**"),
        };
        let unrun = if failed > 0 { format!(", and {failed} could **not be run**") } else { String::new() };
        let within = match (small, count(&|_, fate| fate == Fate::WronglyCaught)) {
            (0, _) => String::new(),
            (1, 0) => "; the one that is off by less than its tolerance passed".to_owned(),
            (small, 0) => format!("; all {small} that are off by less than their tolerance passed"),
            (small, wrong) => {
                format!("; **{wrong} of {small} that are off by less than their tolerance did not pass**")
            }
        };
        sentences.push(format!("{text}{unrun}{within}."));
    }
    if undecided > 0 {
        let (noticed, claims) = match undecided {
            1 => ("One mutant was".to_owned(), "its claim itself does"),
            n => (format!("{n} mutants were"), "their claims themselves do"),
        };
        sentences.push(format!("{noticed} noticed only by checks that {claims} not pass."));
    }
    let moved = || verification.fates().filter(|(m, _)| m.of_prediction).map(|(_, fate)| fate);
    let runs = moved().filter(|fate| *fate != Fate::Undecided).count();
    match (runs, moved().filter(|fate| fate.is_failure()).count()) {
        (0, _) => {}
        (1, 0) => sentences.push(
            "One run with a moved prediction, which measures nothing and tests the judging, came out as it must."
                .to_owned(),
        ),
        (runs, 0) => sentences.push(format!(
            "{runs} runs with a moved prediction, which measure nothing and test the judging, came out as they must."
        )),
        (runs, wrong) => sentences.push(format!("**{wrong} of {runs} runs with a moved prediction came out wrong.**")),
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

/// Claims, or mutants, whose experiments failed.
fn names(verification: &Verification, mutants: bool) -> Vec<String> {
    let errors = verification.errors.iter().filter(|e| e.mutant.is_some() == mutants);
    errors.map(|e| code(&e.name())).collect()
}

/// Alternative text of a figure.
pub(super) fn alt(figure: &Figure) -> String {
    let series: Vec<String> = figure
        .series
        .iter()
        .map(|s| {
            let control = if s.control { " (control)" } else { "" };
            let slope = s.predicted_slope.map_or_else(String::new, |p| format!(", predicted slope {}", fraction(p)));
            format!("{}{control}{slope}", plain(&s.name))
        })
        .collect();
    let (title, y, x) = (plain(&figure.title), plain(&figure.y_label), plain(&figure.x_label));
    format!("{title}: {y} against {x}, both logarithmic. {}.", series.join("; "))
}

fn linked(id: &str) -> String {
    format!("[{}](#{})", code(id), super::slug(id))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn hold(count: usize) -> String {
    match count {
        0 => "none holds".to_owned(),
        1 => "1 holds".to_owned(),
        n => format!("{n} hold"),
    }
}
