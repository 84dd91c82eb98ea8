//! A small language whose cloze questions have an answer that a network can come to know.
//!
//! ```text
//! DET [ADJ] NOUN [REL VERB DET NOUN] AUX VERB CASE DET NOUN PART ADV… TIME .
//! ```
//!
//! Every sentence has fifteen words: what a short one lacks is made up by adverbs. A determiner and the auxiliary have the number of
//! their noun, the latter across a relative clause that may have a noun of another number in it; adjective and relative pronoun have the
//! class of the first noun, the particle that of the object, the case word that of the main verb. Which class, number or lexeme it is, which
//! adverb and which time, is chance: nothing else in the sentence says it. All but the auxiliary's number is said nearby, so that small networks
//! learn it in some hundred steps.
//!
//! Knows words by number, their letters, and nothing of networks.

use std::fmt::Write;
use std::sync::LazyLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Words of a sentence, the stop included.
pub const SENTENCE: usize = 15;

/// Classes of nouns, and of verbs.
const CLASSES: usize = 4;
const NOUNS: usize = 3;
const VERBS: usize = 3;
const ADJECTIVES: usize = 2;
const DETERMINERS: usize = 2;
const AUXILIARIES: usize = 2;
const ADVERBS: usize = 3;
const TIMES: usize = 4;

/// Words of a sentence without adjective, relative clause and adverbs.
const SHORTEST: usize = 10;

/// A word, by its kind and what distinguishes it within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// Agrees in number with its noun.
    Determiner {
        /// Which of them: free.
        lexeme: usize,
        /// 0 for the singular, 1 for the plural.
        number: usize,
    },
    /// Agrees in class with its noun.
    Adjective {
        /// Which of them: free.
        lexeme: usize,
        /// One of four.
        class: usize,
    },
    /// Has a class and a number of its own.
    Noun {
        /// Which of them: free.
        lexeme: usize,
        /// One of four.
        class: usize,
        /// 0 for the singular, 1 for the plural.
        number: usize,
    },
    /// Agrees in class with the noun before it.
    Relative {
        /// One of four.
        class: usize,
    },
    /// Has a class of its own.
    Verb {
        /// Which of them: free.
        lexeme: usize,
        /// One of four.
        class: usize,
    },
    /// Agrees in number with the first noun.
    Auxiliary {
        /// Which of them: free.
        lexeme: usize,
        /// 0 for the singular, 1 for the plural.
        number: usize,
    },
    /// Agrees in class with the main verb.
    Case {
        /// One of four.
        class: usize,
    },
    /// Agrees in class with the object.
    Particle {
        /// One of four.
        class: usize,
    },
    /// Free.
    Adverb(usize),
    /// Free.
    Time(usize),
    /// Ends a sentence.
    Stop,
}

/// All words, in the order of their numbers.
pub static WORDS: LazyLock<Vec<Word>> = LazyLock::new(|| {
    let numbered = |lexemes: usize| (0..lexemes).flat_map(|lexeme| [0, 1].map(|number| (lexeme, number)));
    let classed = |lexemes: usize| (0..CLASSES).flat_map(move |class| (0..lexemes).map(move |lexeme| (class, lexeme)));
    let mut all: Vec<Word> =
        numbered(DETERMINERS).map(|(lexeme, number)| Word::Determiner { lexeme, number }).collect();
    all.extend(classed(ADJECTIVES).map(|(class, lexeme)| Word::Adjective { lexeme, class }));
    all.extend(classed(NOUNS).flat_map(|(class, lexeme)| [0, 1].map(|number| Word::Noun { lexeme, class, number })));
    all.extend((0..CLASSES).map(|class| Word::Relative { class }));
    all.extend(classed(VERBS).map(|(class, lexeme)| Word::Verb { lexeme, class }));
    all.extend(numbered(AUXILIARIES).map(|(lexeme, number)| Word::Auxiliary { lexeme, number }));
    all.extend((0..CLASSES).map(|class| Word::Case { class }));
    all.extend((0..CLASSES).map(|class| Word::Particle { class }));
    all.extend((0..ADVERBS).map(Word::Adverb));
    all.extend((0..TIMES).map(Word::Time));
    all.push(Word::Stop);
    all
});

impl Word {
    /// Its number among [`WORDS`].
    ///
    /// # Panics
    /// If the language has no such word.
    pub fn id(self) -> usize {
        WORDS.iter().position(|word| *word == self).expect("a word of the language")
    }

    /// Its letters.
    pub fn text(self) -> String {
        let letter = |letters: &str, at: usize| letters.chars().nth(at).expect("a letter for each");
        let vowel = |at: usize| letter("aeiouy", at);
        let (noun, verb) = (|class| letter("bdgk", class), |class| letter("ptfv", class));
        match self {
            Self::Determiner { lexeme, number } => format!("l{}{}", vowel(lexeme), ["", "s"][number]),
            Self::Adjective { lexeme, class } => format!("{}{}r", noun(class), vowel(lexeme)),
            Self::Noun { lexeme, class, number } => format!("{}{}n{}", noun(class), vowel(lexeme), ["", "s"][number]),
            Self::Relative { class } => format!("w{}", noun(class)),
            Self::Verb { lexeme, class } => format!("{}{}t", verb(class), vowel(lexeme)),
            Self::Auxiliary { lexeme, number } => format!("m{}{}", vowel(lexeme), ["", "s"][number]),
            Self::Case { class } => format!("n{}", verb(class)),
            Self::Particle { class } => format!("z{}", noun(class)),
            Self::Adverb(lexeme) => format!("j{}", vowel(lexeme)),
            Self::Time(lexeme) => format!("h{}", vowel(lexeme)),
            Self::Stop => ".".into(),
        }
    }
}

/// Places of the words that questions ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Places {
    determiner: usize,
    relative: Option<usize>,
    auxiliary: usize,
    case: usize,
    particle: usize,
    time: usize,
}

/// A sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    words: [Word; SENTENCE],
    places: Places,
}

impl Sentence {
    /// Draws one.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let mut words = Vec::with_capacity(SENTENCE);
        let put = |words: &mut Vec<Word>, word: Word| {
            words.push(word);
            words.len() - 1
        };
        let (class, number) = (rng.random_range(0..CLASSES), rng.random_range(0..2));
        let verb = rng.random_range(0..CLASSES);
        let (is_described, has_clause) = (rng.random::<bool>(), rng.random::<bool>());
        let determiner = put(&mut words, Word::Determiner { lexeme: rng.random_range(0..DETERMINERS), number });
        if is_described {
            words.push(Word::Adjective { lexeme: rng.random_range(0..ADJECTIVES), class });
        }
        words.push(Word::Noun { lexeme: rng.random_range(0..NOUNS), class, number });
        let relative = has_clause.then(|| {
            let at = put(&mut words, Word::Relative { class });
            let (lexeme, class) = (rng.random_range(0..VERBS), rng.random_range(0..CLASSES));
            words.push(Word::Verb { lexeme, class });
            words.extend(noun_phrase(rng).1);
            at
        });
        let auxiliary = put(&mut words, Word::Auxiliary { lexeme: rng.random_range(0..AUXILIARIES), number });
        words.push(Word::Verb { lexeme: rng.random_range(0..VERBS), class: verb });
        let case = put(&mut words, Word::Case { class: verb });
        let (object, phrase) = noun_phrase(rng);
        words.extend(phrase);
        let particle = put(&mut words, Word::Particle { class: object });
        for _ in 0..SENTENCE - SHORTEST - usize::from(is_described) - 4 * usize::from(has_clause) {
            words.push(Word::Adverb(rng.random_range(0..ADVERBS)));
        }
        let time = put(&mut words, Word::Time(rng.random_range(0..TIMES)));
        words.push(Word::Stop);
        let words = words.try_into().expect("adverbs fill every sentence");
        Self { words, places: Places { determiner, relative, auxiliary, case, particle, time } }
    }

    /// Its words.
    pub fn words(&self) -> &[Word; SENTENCE] {
        &self.words
    }

    /// Its words with spaces between.
    pub fn text(&self) -> String {
        self.words.map(Word::text).join(" ")
    }
}

/// A determiner and a noun of any class and number, with the class.
fn noun_phrase(rng: &mut impl Rng) -> (usize, [Word; 2]) {
    let (class, number) = (rng.random_range(0..CLASSES), rng.random_range(0..2));
    let determiner = Word::Determiner { lexeme: rng.random_range(0..DETERMINERS), number };
    (class, [determiner, Word::Noun { lexeme: rng.random_range(0..NOUNS), class, number }])
}

/// Sentences of a named stream, one a line.
pub fn text(count: usize, seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).fold(String::new(), |mut text, _| {
        writeln!(text, "{}", Sentence::draw(&mut rng).text()).expect("a text takes all");
        text
    })
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// The number of the first determiner: the noun says it.
    DeterminerNumber,
    /// The class of the relative pronoun: the noun says it.
    RelativeClass,
    /// The number of the auxiliary: the first noun says it, perhaps across a clause.
    AuxiliaryNumber,
    /// The class of the case word: the main verb says it.
    CaseClass,
    /// The class of the particle: the object says it.
    ParticleClass,
    /// Which of the determiners of the right number: nothing says it.
    Determiner,
    /// Which of the auxiliaries of the right number: nothing says it.
    Auxiliary,
    /// Which time: nothing says it.
    Time,
}

impl Topic {
    /// Those that the sentence answers.
    pub const ANSWERED: [Self; 5] =
        [Self::DeterminerNumber, Self::RelativeClass, Self::AuxiliaryNumber, Self::CaseClass, Self::ParticleClass];
    /// Those that it does not.
    pub const OPEN: [Self; 3] = [Self::Determiner, Self::Auxiliary, Self::Time];

    /// As reports print it.
    pub fn text(self) -> &'static str {
        match self {
            Self::DeterminerNumber => "number of the determiner",
            Self::RelativeClass => "class of the relative pronoun",
            Self::AuxiliaryNumber => "number of the auxiliary",
            Self::CaseClass => "class of the case word",
            Self::ParticleClass => "class of the particle",
            Self::Determiner => "which determiner",
            Self::Auxiliary => "which auxiliary",
            Self::Time => "which time",
        }
    }

    /// The place that it asks for, where the sentence has one.
    fn place(self, places: &Places) -> Option<usize> {
        match self {
            Self::DeterminerNumber | Self::Determiner => Some(places.determiner),
            Self::RelativeClass => places.relative,
            Self::AuxiliaryNumber | Self::Auxiliary => Some(places.auxiliary),
            Self::CaseClass => Some(places.case),
            Self::ParticleClass => Some(places.particle),
            Self::Time => Some(places.time),
        }
    }

    /// Two different words to choose between.
    fn words(self, rng: &mut impl Rng) -> [Word; 2] {
        let mut two = |of: usize| {
            let first = rng.random_range(0..of);
            [first, (first + rng.random_range(1..of)) % of]
        };
        match self {
            Self::RelativeClass => two(CLASSES).map(|class| Word::Relative { class }),
            Self::CaseClass => two(CLASSES).map(|class| Word::Case { class }),
            Self::ParticleClass => two(CLASSES).map(|class| Word::Particle { class }),
            Self::Time => two(TIMES).map(Word::Time),
            Self::DeterminerNumber => {
                let numbers = two(2);
                let lexeme = rng.random_range(0..DETERMINERS);
                numbers.map(|number| Word::Determiner { lexeme, number })
            }
            Self::AuxiliaryNumber => {
                let numbers = two(2);
                let lexeme = rng.random_range(0..AUXILIARIES);
                numbers.map(|number| Word::Auxiliary { lexeme, number })
            }
            Self::Determiner => {
                let lexemes = two(DETERMINERS);
                let number = rng.random_range(0..2);
                lexemes.map(|lexeme| Word::Determiner { lexeme, number })
            }
            Self::Auxiliary => {
                let lexemes = two(AUXILIARIES);
                let number = rng.random_range(0..2);
                lexemes.map(|lexeme| Word::Auxiliary { lexeme, number })
            }
        }
    }
}

/// A cloze task: which of two words stood at the place that the topic is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// What it is about.
    pub topic: Topic,
    /// The two label words.
    pub words: [Word; 2],
}

/// A sentence with a word to be hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The sentence.
    pub sentence: Sentence,
    /// The place of the hidden word.
    pub place: usize,
    /// Which of the question's words it is.
    pub label: usize,
}

impl Question {
    /// Draws the words of a topic's question.
    pub fn draw(topic: Topic, seed: u64) -> Self {
        Self { topic, words: topic.words(&mut ChaCha8Rng::seed_from_u64(seed)) }
    }

    /// Draws sentences in which one of the two words stands at the place, the first and the second in turn.
    pub fn ask(&self, count: usize, seed: u64) -> Vec<Asked> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut one = |label: usize| loop {
            let sentence = Sentence::draw(&mut rng);
            let place = self.topic.place(&sentence.places);
            if let Some(place) = place.filter(|place| sentence.words[*place] == self.words[label]) {
                return Asked { sentence, place, label };
            }
        };
        (0..count).map(|i| one(i % 2)).collect()
    }
}
