"""Adapters of `kernelview analyze` in Hugging Face's PEFT: the same logits, in double precision.

    python check.py MODEL ADAPTER KERNELS DATA

MODEL is a RoBERTa-style checkpoint, ADAPTER what `analyze --lora-rank` trained, KERNELS the directory `kernels` of an `analyze
--lora-adapter ADAPTER`, DATA its data file. See run.sh.
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import RobertaForMaskedLM

TOLERANCE = 1e-10


def main():
    model_directory, adapter, kernels, data = map(Path, sys.argv[1:])
    tokenizer = Tokenizer.from_file(str(model_directory / "tokenizer.json"))

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    special = tokenizer.token_to_id
    labels = [ids(" old")[0], ids(" good")[0]]
    texts = [line.split("\t")[0] for line in data.read_text().splitlines()[1:]]
    model = RobertaForMaskedLM.from_pretrained(model_directory, dtype=torch.float64).eval()
    # transformers 5 does not take the decoder's bias from where older checkpoints have it.
    bias = load_file(model_directory / "model.safetensors")["lm_head.bias"]
    model.lm_head.decoder.bias.data.copy_(bias.double())

    def margins(network):
        found = []
        for text in texts:
            prompt = [special("<s>"), *ids(text), *ids(" It was"), special("<mask>"), *ids("."), special("</s>")]
            with torch.no_grad():
                logits = network(input_ids=torch.tensor([prompt])).logits[0, prompt.index(special("<mask>"))]
            found.append((logits[labels[1]] - logits[labels[0]]).item())
        return torch.tensor(found, dtype=torch.float64)

    before = margins(model)
    after = margins(PeftModel.from_pretrained(model, adapter).double().eval())
    # Which texts the splits took is not asked: every margin of ours must be that of some text.
    ours = torch.cat([
        load_file(kernels / "train.safetensors")["logits"].flatten(),
        load_file(kernels / "test.safetensors")["logits_right"].flatten(),
    ])

    def distance(theirs):
        return (theirs[None] - ours[:, None]).abs().min(1).values.max().item()

    print(f"the adapter moves logits by up to {(after - before).abs().max():.3g}")
    print(f"distance to PEFT: {distance(after):.1e}; to the network without the adapter: {distance(before):.1e}")
    if not distance(after) < TOLERANCE < distance(before):
        sys.exit("not the same")


main()
