"""Networks, data and texts of the checks, made here so that nothing has to be fetched; and readers of what the program
writes. The networks are those of `benches/peers/network.py`."""

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import network  # noqa: E402

#: Words of the prompt and of the labels at the places that `network.LABELS` and the template need.
FIXED = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "it", "was", "bad", ".", "w9", "w10", "good"]
TEMPLATE = "*cls**sent_0*_It_was*mask*.*sep+*"
#: Tokens of a prompt beside the text's: cls, it, was, mask, the full stop, sep.
AROUND = 6
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Shape:
    """Sizes of a network of RoBERTa's architecture."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int


BASE = Shape(50265, 768, 12, 12, 3072, 514)
SMALL = Shape(400, 32, 2, 4, 48, 80)


def use(shape: Shape) -> None:
    """Makes `network` one of this shape."""
    network.VOCABULARY, network.HIDDEN, network.LAYERS = shape.vocabulary, shape.hidden, shape.layers
    network.HEADS, network.INNER, network.POSITIONS = shape.heads, shape.inner, shape.positions


def hugging_face(name: str) -> str:
    """A parameter's name in a RoBERTa checkpoint."""
    whole = {
        "tokens": "roberta.embeddings.word_embeddings.weight",
        "positions": "roberta.embeddings.position_embeddings.weight",
        "segments": "roberta.embeddings.token_type_embeddings.weight",
        "decoder.bias": "lm_head.bias",
    }
    if name in whole:
        return whole[name]
    module, kind = name.rsplit(".", 1)
    if module in ("embeddings", "transform", "transform_norm"):
        places = {"embeddings": "roberta.embeddings.LayerNorm", "transform": "lm_head.dense", "transform_norm": "lm_head.layer_norm"}
        return f"{places[module]}.{kind}"
    layer, part = module.split(".")
    places = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "inner": "intermediate.dense",
        "output": "output.dense",
        "output_norm": "output.LayerNorm",
    }
    return f"roberta.encoder.layer.{layer}.{places[part]}.{kind}"


def checkpoint(directory: Path, shape: Shape) -> dict[str, Tensor]:
    """Writes a network with random weights as a checkpoint directory; its parameters."""
    use(shape)
    parameters = network.parameters()
    # Biases and norms of a trained network are not zeros and ones: none may pass unnoticed.
    generator = torch.Generator().manual_seed(2)
    for name, value in parameters.items():
        if value.dim() == 1:
            value += 0.02 * torch.randn(value.shape, generator=generator)
        elif shape is SMALL:
            value *= 10
    directory.mkdir(parents=True)
    config = {
        "model_type": "roberta",
        "architectures": ["RobertaForMaskedLM"],
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "pad_token_id": 1,
        "tie_word_embeddings": True,
    }
    (directory / "config.json").write_text(json.dumps(config))
    torch.save({hugging_face(name): value for name, value in parameters.items()}, directory / "pytorch_model.bin")
    words = FIXED + [f"w{i}" for i in range(len(FIXED), shape.vocabulary)]
    special = [
        {"id": i, "content": words[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i in range(5)
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "<unk>",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(words)},
        },
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    return parameters


def examples(file: Path, shape: Shape, count: int, tokens: int) -> Tensor:
    """Writes texts of random words with alternating labels as a data file; the prompts' token ids [count, tokens], row by
    row of the file."""
    draw = random.Random(5)
    rows, ids = ["label\ttext"], []
    for row in range(count):
        own = [draw.randrange(len(FIXED), shape.vocabulary) for _ in range(tokens - AROUND)]
        rows.append(f"{row % 2}\t{' '.join(f'w{i}' for i in own)}")
        ids.append([0, *own, 5, 6, 4, 8, 2])
    file.write_text("\n".join(rows) + "\n")
    return torch.tensor(ids)


RECIPE = """name = "rehearsal"
seed = 3

[corpus]
train = "text.txt"
heldout = "text.txt"
vocabulary = 600

[model]
widths = [{width}]
base_width = {width}
layers = 2
head_dimension = 16
tokens = 18
embedding_deviation = 0.1
position_amplitude = 0.1

[training]
steps = {steps}
batch = 32
masked = 4
learning_rate = 4e-3
warmup = 0.1
beta1 = 0.9
beta2 = 0.99
epsilon = 1e-12
evaluate_every = {steps}
heldout_sequences = 128
"""


def recipe(directory: Path, width: int, steps: int) -> Path:
    """Writes a pre-training recipe and its text, this project's own sentences; the recipe's path."""
    directory.mkdir(parents=True)
    texts = sorted((ROOT / "fixtures" / "cloze").glob("*.txt"))
    (directory / "text.txt").write_text("\n".join(text.read_text(encoding="utf-8") for text in texts), encoding="utf-8")
    path = directory / "recipe.toml"
    path.write_text(RECIPE.format(width=width, steps=steps))
    return path


def safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a kernel file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    kinds = {"F64": torch.float64, "I64": torch.int64}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(bytearray(data[8 + length + begin : 8 + length + end]), dtype=kinds[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors, metadata
