"""A masked language model of RoBERTa-base's shape in plain PyTorch, with random weights and one output.

Attention is written with explicit products, because forward-mode and per-example derivatives need operations that have
them. The output is the difference of two label words' logits at the mask position, from a decoder tied to the token
embeddings: what the engine under comparison computes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

VOCABULARY, HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 50265, 768, 12, 12, 3072, 514
LABELS = (7, 11)

Parameters = dict[str, Tensor]


def parameters(seed: int = 1) -> Parameters:
    """Weights N(0, 0.02²), biases zero, norms one: 124.6M numbers."""
    torch.manual_seed(seed)

    def matrix(*shape: int) -> Tensor:
        return torch.randn(*shape) * 0.02

    values = {"tokens": matrix(VOCABULARY, HIDDEN), "positions": matrix(POSITIONS, HIDDEN), "segments": matrix(1, HIDDEN)}

    def linear(name: str, out: int, inputs: int) -> None:
        values[f"{name}.weight"], values[f"{name}.bias"] = matrix(out, inputs), torch.zeros(out)

    def norm(name: str) -> None:
        values[f"{name}.weight"], values[f"{name}.bias"] = torch.ones(HIDDEN), torch.zeros(HIDDEN)

    norm("embeddings")
    for layer in range(LAYERS):
        for name in ("query", "key", "value", "attention"):
            linear(f"{layer}.{name}", HIDDEN, HIDDEN)
        linear(f"{layer}.inner", INNER, HIDDEN)
        linear(f"{layer}.output", HIDDEN, INNER)
        norm(f"{layer}.attention_norm")
        norm(f"{layer}.output_norm")
    linear("transform", HIDDEN, HIDDEN)
    norm("transform_norm")
    values["decoder.bias"] = torch.zeros(VOCABULARY)
    return values


def prompts(examples: int, tokens: int) -> Tensor:
    """Token ids [N, T], the same as the engine's benchmark uses."""
    ids = [[(i * 7919 + t * 104_729) % 30_000 + 5 for t in range(tokens)] for i in range(examples)]
    return torch.tensor(ids)


def output(p: Parameters, ids: Tensor) -> Tensor:
    """f of one prompt [T]: a number."""
    tokens = ids.shape[0]

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (HIDDEN,), p[f"{name}.weight"], p[f"{name}.bias"])

    x = p["tokens"][ids] + p["positions"][torch.arange(2, tokens + 2)] + p["segments"][0]
    x = norm(x, "embeddings")
    for layer in range(LAYERS):

        def heads(name: str, x: Tensor = x, layer: int = layer) -> Tensor:
            return linear(x, f"{layer}.{name}").view(tokens, HEADS, HIDDEN // HEADS).transpose(0, 1)

        scores = heads("query") @ heads("key").transpose(1, 2) / math.sqrt(HIDDEN // HEADS)
        mixed = (scores.softmax(-1) @ heads("value")).transpose(0, 1).reshape(tokens, HIDDEN)
        x = norm(linear(mixed, f"{layer}.attention") + x, f"{layer}.attention_norm")
        x = norm(linear(F.gelu(linear(x, f"{layer}.inner")), f"{layer}.output") + x, f"{layer}.output_norm")
    h = norm(F.gelu(linear(x[tokens - 3], "transform")), "transform_norm")
    logits = [h @ p["tokens"][word] + p["decoder.bias"][word] for word in LABELS]
    return logits[1] - logits[0]
