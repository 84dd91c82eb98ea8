//! The public strategies draw what they promise.

use kernelview::network::{classify_sgd, classify_sign};
use kernelview::strategies::{abc, shifted_for_sgd, task, template};
use kernelview::task::Template;
use proptest::prelude::*;

proptest! {
    /// All equivalent forms of a stable parametrization are stable, and change features equally.
    #[test]
    fn shifted_parametrizations_are_stable_and_not_trivial((hidden, abc) in (1..4usize).prop_flat_map(|l| (Just(l), shifted_for_sgd(l)))) {
        let class = classify_sgd(&abc);
        prop_assert!(class.stable && class.non_trivial, "{abc:?}: {:?}", class.reasons);
        let unshifted = abc.shifted_for_sgd(&vec![0.25; hidden + 1]);
        prop_assert_eq!(classify_sgd(&unshifted).r, class.r);
    }

    /// Every parametrization, however unstable, has a class, which is the same for its equivalent forms.
    #[test]
    fn classes_do_not_depend_on_how_a_parametrization_is_written(abc in abc(2), quarters in proptest::collection::vec(-4..=4i32, 3)) {
        let theta: Vec<f64> = quarters.iter().map(|q| f64::from(*q) / 4.0).collect();
        for (class, shifted) in [
            (classify_sgd(&abc), classify_sgd(&abc.shifted_for_sgd(&theta))),
            (classify_sign(&abc), classify_sign(&abc.shifted_for_sign(&theta))),
        ] {
            prop_assert_eq!((class.stable, class.non_trivial, class.r), (shifted.stable, shifted.non_trivial, shifted.r));
        }
    }

    #[test]
    fn templates_and_tasks_are_written_as_they_are_read(template in template(), task in task()) {
        prop_assert_eq!(Template::parse(&template.to_string()).unwrap(), template);
        prop_assert!((2..=4).contains(&task.label_words.len()));
        prop_assert_eq!(task.template.text_count(), 1);
    }
}
