"""Fine-tuning steps of PyTorch with transformers at the shapes of RoBERTa-base and SmolLM2-135M, as `cargo bench --bench
training` takes them.

usage: training.py [ROW...] with rows like adam:8:64, sgd:8:16-64, adam:8:64:bf16 (autocast), smollm2/adam:8:64

The loss is the cross-entropy of two label words at the mask's position, or at a causal text's last token; the decoder is applied at that
position alone, as a careful user would. Every row is a process of its own.
"""

import contextlib
import resource
import subprocess
import sys
import time

ROWS = (
    "sgd:8:64",
    "adam:8:64",
    "sgd:8:16-64",
    "adam:8:16-64",
    "smollm2/adam:8:64",
    "smollm2/adam:8:16-64",
    "adam:8:64:bf16",
)
STEPS = 8


def measure(row: str) -> None:
    """One row, in this process."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForMaskedLM

    causal = row.startswith("smollm2/")
    name, batch, tokens, *more = row.removeprefix("smollm2/").split(":")
    count = int(batch)
    shortest, longest = (int(n) for n in (tokens.split("-") * 2)[:2])
    torch.manual_seed(1)
    if causal:
        shape = {"vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536}
        heads = {"num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}
        model = LlamaForCausalLM(LlamaConfig(**shape, **heads)).eval()
    else:
        shape = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
        model = RobertaForMaskedLM(RobertaConfig(**shape)).eval()
    body = model.model if causal else model.roberta
    optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name](model.parameters(), lr=1e-6)
    lengths = [shortest + (longest - shortest) * (i * 5 % count) // max(count - 1, 1) for i in range(count)]
    ids = torch.full((count, longest), 1)
    mask = torch.zeros(count, longest, dtype=torch.long)
    for i, length in enumerate(lengths):
        ids[i, :length] = torch.tensor([(i * 7919 + t * 104_729) % 30_000 + 5 for t in range(length)])
        mask[i, :length] = 1
    at = torch.tensor([length - (1 if causal else 3) for length in lengths])
    labels = torch.arange(count) % 2
    words = torch.tensor([7, 11])
    precision = torch.autocast("cpu", dtype=torch.bfloat16) if more == ["bf16"] else contextlib.nullcontext()

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with precision:
            hidden = body(ids, attention_mask=mask).last_hidden_state[torch.arange(count), at]
            loss = torch.nn.functional.cross_entropy(model.lm_head(hidden)[:, words].float(), labels)
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    times = sorted([step() for _ in range(STEPS)][1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"| {row.replace(':', ' | ', 2)} | {times[0]:.3f} | {times[len(times) // 2]:.3f} | {peak} |", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--row"]:
        measure(sys.argv[2])
        return
    print("| optimizer | examples | tokens | best step, s | median, s | peak memory, MB |\n|---|---|---|---:|---:|---:|", flush=True)
    for row in sys.argv[1:] or ROWS:
        subprocess.run([sys.executable, __file__, "--row", row], check=True)


if __name__ == "__main__":
    main()
