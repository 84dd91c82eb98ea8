#!/usr/bin/env bash
# Trains a LoRA adapter on a network of the sources and compares it with what Hugging Face's PEFT makes of its files. Fetches PyTorch,
# transformers and PEFT into an environment of its own, hence not a part of `cargo test`.
#   tests/peft/run.sh target/release/kernelview [PYTHON with these packages]
set -euo pipefail
program=$(realpath "${1:?usage: tests/peft/run.sh PROGRAM [PYTHON]}")
root=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${2:-}
if [ -z "$python" ]; then
    python3 -m venv "$work/venv"
    python=$work/venv/bin/python
    "$python" -m pip install --quiet torch transformers peft safetensors
fi
cd "$work"
model=$root/fixtures/family/prose-64
{
    printf 'text\tlabel\n'
    while read -r label text; do printf '%s\t%s\n' "$text" "$label"; done <<'TEXTS'
good the garden was full of flowers and of light
bad the cellar was dark and smelled of rats
good she sang so sweetly that all of us were still
bad he shouted until nobody would listen to him
good the bread was warm and the wine was red
bad the soup was cold and the plates were dirty
good we came home early and were welcomed by all
bad we lost the road and walked in rain till night
good the doctor said that the child would live
bad the letter said that the ship had gone down
good the old man gave the boy his golden watch
bad the young man took the purse and ran away
TEXTS
} > data.tsv
analyze() {
    "$program" analyze --model "$model" --data data.tsv --k 2 --test-limit 4 --dtype f64 --device cpu --threads 1 \
        --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words bad=old,good=good --steps 20 --eval-every 10 \
        --train-batch-size 4 --lr-sgd 1e-1 --lr-adam 1e-2 "$@" > log 2>&1 || { cat log >&2; exit 1; }
}
analyze --lora-rank 4 --out-dir trained
for optimizer in sgd adam; do
    analyze --lora-adapter "trained/adapters/$optimizer" --out-dir "read-$optimizer"
    echo "=== $optimizer"
    "$python" "$root/tests/peft/check.py" "$model" "trained/adapters/$optimizer" "read-$optimizer/kernels" data.tsv 2>/dev/null
done
