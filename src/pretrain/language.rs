//! A small artificial language with cloze questions whose answers a network can learn.
//!
//! ```text
//! DET [ADJ] NOUN [REL VERB DET NOUN] AUX VERB CASE DET NOUN PART ADV… TIME .
//! ```
//!
//! Every sentence has fifteen words: adverbs fill up short ones. A determiner and the auxiliary have the number of their noun,
//! the latter even across a relative clause with a noun of another number; adjective and relative pronoun have the class of the
//! first noun, the particle that of the object, the case word that of the main verb. Class, number and lexeme of a word,
//! adverbs and time are random: nothing else in the sentence determines them. Everything but the auxiliary's number is
//! determined by a nearby word, so that small networks learn it in a few hundred steps.
//!
//! Knows words by number, and their letters; knows no networks.

use std::fmt::Write;
use std::sync::LazyLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Words of a sentence, including the stop.
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

/// A word: its kind, and its features within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// Agrees in number with its noun.
    Determiner {
        /// Which one: free.
        lexeme: usize,
        /// 0 for the singular, 1 for the plural.
        number: usize,
    },
    /// Agrees in class with its noun.
    Adjective {
        /// Which one: free.
        lexeme: usize,
        /// One of four.
        class: usize,
    },
    /// Has its own class and number.
    Noun {
        /// Which one: free.
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
    /// Has its own class.
    Verb {
        /// Which one: free.
        lexeme: usize,
        /// One of four.
        class: usize,
    },
    /// Agrees in number with the first noun.
    Auxiliary {
        /// Which one: free.
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

/// Positions of the words that questions ask for.
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
    /// Draws a sentence.
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

/// A determiner and a noun of random class and number; also returns the class.
fn noun_phrase(rng: &mut impl Rng) -> (usize, [Word; 2]) {
    let (class, number) = (rng.random_range(0..CLASSES), rng.random_range(0..2));
    let determiner = Word::Determiner { lexeme: rng.random_range(0..DETERMINERS), number };
    (class, [determiner, Word::Noun { lexeme: rng.random_range(0..NOUNS), class, number }])
}

/// Sentences from a named stream, one per line.
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
    /// The number of the first determiner, which agrees with the noun.
    DeterminerNumber,
    /// The class of the relative pronoun, which agrees with the noun.
    RelativeClass,
    /// The number of the auxiliary, which agrees with the first noun, perhaps across a clause.
    AuxiliaryNumber,
    /// The class of the case word, which agrees with the main verb.
    CaseClass,
    /// The class of the particle, which agrees with the object.
    ParticleClass,
    /// Which determiner of the right number: free.
    Determiner,
    /// Which auxiliary of the right number: free.
    Auxiliary,
    /// Which time: free.
    Time,
}

impl Topic {
    /// The topics that the sentence answers.
    pub const ANSWERED: [Self; 5] =
        [Self::DeterminerNumber, Self::RelativeClass, Self::AuxiliaryNumber, Self::CaseClass, Self::ParticleClass];
    /// The topics that it does not answer.
    pub const OPEN: [Self; 3] = [Self::Determiner, Self::Auxiliary, Self::Time];

    /// Text in reports.
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

    /// The position that it asks for, if the sentence has it.
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

    /// Two different words to choose from.
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

/// A cloze task: which of two words was at the topic's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// What it is about.
    pub topic: Topic,
    /// The two label words.
    pub words: [Word; 2],
}

/// A sentence with a hidden word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The sentence.
    pub sentence: Sentence,
    /// Position of the hidden word.
    pub place: usize,
    /// Which of the question's words it is.
    pub label: usize,
}

impl Question {
    /// Draws the words of a topic's question.
    pub fn draw(topic: Topic, seed: u64) -> Self {
        Self { topic, words: topic.words(&mut ChaCha8Rng::seed_from_u64(seed)) }
    }

    /// Draws sentences with one of the two words at the position, the first and the second in turn.
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
