//! The known name that a misspelt one resembles, for messages that ask whether it was meant.

/// The first candidate with the fewest slips (characters left out, added, replaced, or exchanged with their neighbours), if
/// these are at most `most` and at most half its length.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>, most: usize) -> Option<&'a str> {
    let measured = candidates.map(|candidate| (strsim::osa_distance(name, candidate), candidate));
    let (slips, candidate) = measured.min_by_key(|(slips, _)| *slips)?;
    (slips <= most && 2 * slips <= candidate.chars().count()).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_within_its_bounds() {
        let near = |name, most| nearest(name, ["sep", "sep+", "sent_0"].into_iter(), most);
        assert_eq!(near("sepp", 1), Some("sep"), "the first of two");
        assert_eq!(near("snet_0", 1), Some("sent_0"), "neighbours exchanged are one slip");
        assert_eq!((near("snt_1", 1), near("snt_1", 2)), (None, Some("sent_0")));
        assert_eq!(near("it was", usize::MAX), None, "more than half of any name");
        assert_eq!(nearest("sep", std::iter::empty(), 1), None);
    }
}
