"""Checks of a release binary on a card, against PyTorch on the same card. See `benches/gpu/check`."""

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import material
import torch
import torch.nn.functional as F
from material import network
from record import Failed, Record, Section
from torch import Tensor
from torch.func import grad
from torch.func import vmap as over

HERE = Path(__file__).resolve().parent
#: The formulas with their names in a kernel file.
FORMULAS = "sgd,asymmetric,signgd"
#: Claims whose full profile is the largest, by what the card has most to do with: widths to 16384 and millions of samples.
LARGEST = ["ntk-regime", "kernel-analog-sgd", "kernel-analog-signgd", "ntk-limit", "mup-limit", "master-theorem", "early-adam"]


@dataclass
class Run:
    """What all checks share."""

    binary: Path
    device: str
    small: bool
    scratch: Path
    record: Record

    @property
    def on_card(self) -> bool:
        return self.device.startswith("cuda")

    def program(self, *arguments: object, limit: float | None = None, codes: tuple[int, ...] = (0,)) -> tuple[str, float]:
        """Runs the program, which must end with one of these codes; what it printed, and its seconds."""
        start = time.monotonic()
        environment = {**os.environ, "KERNELVIEW_CACHE": str(self.scratch / "cache"), "HF_HUB_OFFLINE": "1"}
        command = [str(self.binary), *map(str, arguments)]
        limit = max(1.0, min(limit or self.record.left, self.record.left))
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=self.scratch, env=environment, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired as reason:
            raise TimeoutError(f"not finished within {limit:.0f} s: {' '.join(command[1:4])}") from reason
        seconds = time.monotonic() - start
        if done.returncode not in codes:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise Failed(f"{' '.join(command[1:3])} ended with {done.returncode}: {last[:300]}")
        return done.stdout + done.stderr, seconds

    def kernel(self, model: str, *arguments: object, device: str | None = None) -> tuple[dict[str, Tensor], dict[str, str], float]:
        """A kernel of the rows: tensors, metadata, seconds of the process."""
        out = self.scratch / "K.safetensors"
        _, seconds = self.program(
            "kernel", "--model", model, "--data", "rows.tsv", "--template", material.TEMPLATE, "--label-words", "bad,good",
            "--formula", FORMULAS, "--device", device or self.device, "--out", out, *arguments,
        )  # fmt: skip
        tensors, metadata = material.safetensors(out)
        return {name: squeezed(t) if name.startswith("kernel.") else t for name, t in tensors.items()}, metadata, seconds

    def wait(self) -> None:
        if self.on_card:
            torch.cuda.synchronize()


def squeezed(kernel: Tensor) -> Tensor:
    """[N, 1, M, 1] as [N, M]."""
    return kernel.squeeze(3).squeeze(1)


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference of an entry, relative to the largest entry; infinite where shapes or finiteness are lost."""
    if a.shape != b.shape or not bool(a.isfinite().all()):
        return math.inf
    return float((a - b).abs().max() / b.abs().max())


def on(device: str, kind: torch.dtype, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(device, kind) for name, value in parameters.items()}


def gradients(parameters: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Per-example gradients [N, P] by torch.func, four at a time."""
    one = over(grad(network.output), in_dims=(None, 0))
    rows = torch.empty(len(ids), sum(v.numel() for v in parameters.values()), device=ids.device, dtype=parameters["tokens"].dtype)
    for start in range(0, len(ids), 4):
        part = one(parameters, ids[start : start + 4])
        torch.cat([g.reshape(g.shape[0], -1) for g in part.values()], 1, out=rows[start : start + 4])
    return rows


def no_structural_zeros(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
    """Signs of the rows, zero where exact arithmetic gives zero: at key biases."""
    signs, start = rows.sign(), 0
    for name, value in parameters.items():
        if name.endswith(".key.bias"):
            signs[:, start : start + value.numel()] = 0
        start += value.numel()
    return signs


def torch_kernels(parameters: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
    """The three kernels of the rows, in double precision on the CPU."""
    rows = gradients(parameters, ids)
    signs = no_structural_zeros(parameters, rows)
    # Sign products are integers below 2^24 in pieces that single precision adds exactly.
    count = sum(
        (part @ part.T).to(torch.float64) for part in signs.to(torch.float32).split(1 << 23, dim=1)
    )
    products = {"kernel.sgd": rows @ rows.T, "kernel.asymmetric": rows @ signs.T, "kernel.signgd": count}
    return {name: value.to("cpu", torch.float64) for name, value in products.items()}


def against_torch(run: Run, section: Section, model: str, parameters: dict[str, Tensor], ids: Tensor, kind: str) -> None:
    """A kernel file against torch.func in the same precision."""
    single = kind == "f32"
    dtype = torch.float32 if single else torch.float64
    own, _, seconds = run.kernel(model, "--all-rows", "--dtype", kind)
    values = on(run.device, dtype, parameters)
    start = time.monotonic()
    expected = torch_kernels(values, ids.to(run.device))
    run.wait()
    taken = time.monotonic() - start
    with torch.no_grad():
        logits = over(network.output, in_dims=(None, 0))(values, ids.to(run.device)).to("cpu", torch.float64)
    bounds = {"kernel.sgd": 2e-5, "kernel.asymmetric": 2e-5, "kernel.signgd": 2e-3} if single else {
        "kernel.sgd": 1e-10, "kernel.asymmetric": 1e-10, "kernel.signgd": 1e-7,
    }  # fmt: skip
    section.at_most(f"{kind}, logits", distance(own["logits"].reshape(-1), logits), 2e-5 if single else 1e-10)
    for name, bound in bounds.items():
        section.at_most(f"{kind}, {name}", distance(own[name], expected[name]), bound)
    whole = bool((own["kernel.signgd"] == own["kernel.signgd"].round()).all())
    section.that(f"{kind}, kernel.signgd", "integers" if whole else "fractions", "integers", whole)
    section.note(f"{kind}, {len(ids)} examples: kernelview, the whole process, all formulas", f"{seconds:.1f} s")
    section.note(f"{kind}, {len(ids)} examples: torch.func, rows in memory, all formulas", f"{taken:.1f} s")


def kernels(run: Run, section: Section) -> None:
    """Kernels at RoBERTa's shape against torch.func, in both precisions; rectangular ones against square ones."""
    shape = material.SMALL if run.small else material.BASE
    parameters = material.checkpoint(run.scratch / "shape", shape)
    tokens = 16 if run.small else 64
    few = material.examples(run.scratch / "rows.tsv", shape, 8, tokens)
    against_torch(run, section, "shape", parameters, few, "f64")
    if run.on_card:
        torch.cuda.empty_cache()
    whole, _, _ = run.kernel("shape", "--all-rows", "--dtype", "f64")
    part, about, _ = run.kernel("shape", "--k", 1, "--against", "test", "--dtype", "f64")
    # Row 0 of the kernel of all rows is line 2 of the file, below the header.
    left, right = ([int(n) - 2 for n in about[f"{side}_numbers"].split(",")] for side in ("row", "column"))
    for name in ("kernel.sgd", "kernel.asymmetric", "kernel.signgd"):
        section.at_most(f"f64, train x test, {name}", distance(part[name], whole[name][left][:, right]), 1e-10)
    reversed_ = whole["kernel.asymmetric"].T[left][:, right]
    section.at_most("f64, train x test, kernel.asymmetric_reversed", distance(part["kernel.asymmetric_reversed"], reversed_), 1e-10)
    if run.on_card:
        beside, _, _ = run.kernel("shape", "--all-rows", "--dtype", "f64", device="cpu")
        for name in ("kernel.sgd", "kernel.asymmetric", "kernel.signgd"):
            bound = 1e-7 if name == "kernel.signgd" else 1e-10
            section.at_most(f"f64, card against CPU, {name}", distance(whole[name], beside[name]), bound)
    many = material.examples(run.scratch / "rows.tsv", shape, 32, tokens)
    against_torch(run, section, "shape", parameters, many, "f32")
    if run.on_card:
        torch.cuda.empty_cache()


def precisions(run: Run, section: Section) -> None:
    """Products of gradients in other precisions, against those in double precision of the same gradients."""
    exact, _, _ = run.kernel("shape", "--all-rows", "--precision", "f64")
    # Eleven significant bits in tf32, eight in bf16, where gradients are rounded before they are multiplied.
    for name, bound in [("f32", 2e-5), ("tf32", 2e-3), ("bf16", 2e-2)]:
        if name == "tf32" and not run.on_card:
            continue
        own, about, seconds = run.kernel("shape", "--all-rows", "--precision", name)
        for formula in ("kernel.sgd", "kernel.asymmetric"):
            section.at_most(f"{name}, {formula}", distance(own[formula], exact[formula]), bound)
        section.note(f"{name}, kernel.signgd", f"{distance(own['kernel.signgd'], exact['kernel.signgd']):.2e}")
        section.note(f"{name}, what the file says", about.get("precision_error", "nothing"))
        section.note(f"{name}, the whole process", f"{seconds:.1f} s")


def trajectory(parameters: dict[str, Tensor], train: Tensor, dev: Tensor, labels: Tensor, name: str, rate: float, steps: int) -> list[float]:
    """Dev losses after every step of full-batch training by PyTorch; labels alternate in both sets."""
    leaves = {key: value.clone().requires_grad_(True) for key, value in parameters.items()}
    if name == "sgd":
        optimizer = torch.optim.SGD(list(leaves.values()), lr=rate)
    else:
        optimizer = torch.optim.Adam(list(leaves.values()), lr=rate, betas=(0.9, 0.999), eps=1e-8)

    def loss(ids: Tensor) -> Tensor:
        # Cross-entropy of two logits depends on their difference alone.
        difference = over(network.output, in_dims=(None, 0))(leaves, ids)
        return F.softplus(torch.where(labels == 1, -difference, difference)).mean()

    losses = []
    for _step in range(steps):
        optimizer.zero_grad()
        loss(train).backward()
        optimizer.step()
        with torch.no_grad():
            losses.append(float(loss(dev)))
    return losses


def fine_tuning(run: Run, section: Section) -> None:
    """Full-batch SGD and Adam in double precision against PyTorch, step by step; a run at RoBERTa's shape for its time."""
    shape, steps, k = material.SMALL, 12, 8
    parameters = material.checkpoint(run.scratch / "tiny", shape)
    ids = material.examples(run.scratch / "rows.tsv", shape, 6 * k, 16)

    def analyze(model: str, out: str, *arguments: object) -> tuple[dict, float]:
        _, seconds = run.program(
            "analyze", "--model", model, "--data", "rows.tsv", "--template", material.TEMPLATE, "--label-words", "bad,good",
            "--k", k, "--train-batch-size", 2 * k, "--device", run.device, "--out-dir", out, *arguments,
        )  # fmt: skip
        return json.loads((run.scratch / out / "report.json").read_text()), seconds

    rates = {"sgd": 1e-2, "adam": 1e-3}
    report, _ = analyze(
        "tiny", "tuned", "--dtype", "f64", "--steps", steps, "--eval-every", 1,
        "--lr-sgd", rates["sgd"], "--lr-adam", rates["adam"],
    )  # fmt: skip
    sets = {part["set"]: part for part in report["task"]["sets"]}
    places = {name: [row - 2 for row in sets[name]["rows"]] for name in ("train", "dev")}
    values = on(run.device, torch.float64, parameters)
    # A row's label is its place's parity, as `material.examples` writes them; both sets are ordered by label.
    labels = torch.tensor([place % 2 for place in places["train"]], device=run.device)
    same = [place % 2 for place in places["dev"]] == labels.tolist()
    section.that("sets", "ordered by label" if same else "in another order", "ordered by label", same)
    train, dev = (ids[places[name]].to(run.device) for name in ("train", "dev"))
    for found in report["fine_tuning"]:
        name = found["optimizer"]
        own = torch.tensor([e["dev_loss"] for e in found["history"]], dtype=torch.float64)
        expected = torch.tensor(trajectory(values, train, dev, labels, name, rates[name], steps), dtype=torch.float64)
        section.at_most(f"{name}, dev loss over {steps} steps against PyTorch", distance(own, expected), 1e-9)
        moved = float((expected[0] - expected[-1]).abs() / expected[0])
        section.that(f"{name}, how far the loss moved", f"{moved:.1e}", "more than 1e-4", moved > 1e-4)
    if run.small:
        return
    large = material.examples(run.scratch / "rows.tsv", material.BASE, 6 * k, 64)
    report, seconds = analyze(
        "shape", "large", "--optimizers", "sgd,adam", "--lr-sgd", "1e-3", "--lr-adam", "1e-5", "--steps", 32, "--eval-every", 16,
        "--measures", "end", "--formula", "sgd",
    )  # fmt: skip
    section.note(f"RoBERTa's shape: kernels of {len(large)} examples, 32 steps of SGD and Adam, their measures", f"{seconds:.1f} s")
    for found in report["fine_tuning"]:
        residual = found["linearization"]["cumulative_residual"]
        finite = residual is not None and math.isfinite(residual)
        section.that(f"RoBERTa's shape, {found['optimizer']}, residual of the linearization", f"{residual}", "a number", finite)


def pretraining(run: Run, section: Section) -> None:
    """Pre-training: on a card in mixed precision, against the CPU in single precision."""
    width, steps = (32, 400) if run.small else (128, 800)
    config = material.recipe(run.scratch / "pretraining", width, steps)

    def curve(device: str) -> tuple[float, float, float]:
        out = run.scratch / f"pretrained-{device.replace(':', '')}"
        # 1 where a network does not come a whole nat below the tokens' frequencies, which takes longer than there is time for.
        _, seconds = run.program("pretrain", "--config", config, "--device", device, "--out-dir", out, codes=(0, 1))
        found = json.loads((out / "report.json").read_text())["curves"][0]
        return found["points"][-1]["heldout_loss"], found["unigram_loss"], seconds

    loss, unigram, seconds = curve(run.device)
    section.that("held-out loss, nats", f"{loss:.3f}", f"below the tokens' frequencies, {unigram:.3f}", loss < unigram)
    section.note(f"width {width}, {steps} steps", f"{seconds:.1f} s")
    if run.on_card:
        beside, _, seconds = curve("cpu")
        section.at_most("difference of the held-out loss from the CPU's, nats", abs(loss - beside), 0.1)
        section.note("the same on the CPU", f"{seconds:.1f} s")


def claims(run: Run, section: Section) -> None:
    """The largest claims, as many as there is time for; one that is cut short is told, and counts as neither."""
    chosen = ["structural-zeros", "kernel-algebra"] if run.small else LARGEST
    profile = "quick" if run.small else "full"
    finished = 0
    for number, claim in enumerate(chosen):
        share = (run.record.left - 5) / (len(chosen) - number)
        out = run.scratch / f"claim-{claim}"
        if share < 5:
            section.note(claim, "no time left")
            continue
        try:
            _, seconds = run.program(
                "verify", "--profile", profile, "--claim", claim, "--no-mutants", "--device", run.device, "--out-dir", out, limit=2 * share
            )
        except TimeoutError as reason:
            section.note(claim, str(reason))
            continue
        except Failed as reason:
            section.that(claim, str(reason), "holds", False)
            continue
        verdict = json.loads((out / "report.json").read_text())["claims"][0]["verdict"]
        finished += 1
        section.that(claim, f"{verdict}, {seconds:.0f} s", "holds", str(verdict).lower() == "holds")
    section.that("claims that came to their end", str(finished), "at least 1", finished > 0)


CHECKS = {"kernels": kernels, "precisions": precisions, "fine-tuning": fine_tuning, "pre-training": pretraining, "claims": claims}
TITLES = {
    "kernels": "Kernels at RoBERTa's shape against torch.func",
    "precisions": "Products in other precisions",
    "fine-tuning": "Fine-tuning against PyTorch",
    "pre-training": "Pre-training in mixed precision",
    "claims": "The largest claims",
}


def facts(run: Run) -> list[str]:
    """Machine, versions and command, a line each."""
    card = "no card: a rehearsal on the CPU"
    if run.on_card:
        properties = torch.cuda.get_device_properties(run.device)
        card = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    version, _ = run.program("--version")
    return [
        f"- card: {card}",
        f"- processor: {os.cpu_count()} cores, {platform.machine()}; Python {platform.python_version()}, PyTorch {torch.__version__}",
        f"- program: {version.strip()}",
        f"- `benches/gpu/check {' '.join(sys.argv[1:])}`; networks are {'small' if run.small else 'of the stated sizes'}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benches/gpu/check", description=__doc__)
    parser.add_argument("--device", default="cuda:0", help="cuda:INDEX, or cpu for a rehearsal [cuda:0]")
    parser.add_argument("--small", action="store_true", help="small networks: minutes become seconds")
    parser.add_argument("--binary", type=Path, default=HERE.parents[1] / "target" / "kernelview", help="the program [target/kernelview]")
    parser.add_argument("--record", type=Path, help="the file to write [benches/record/DATE-gpu.md]")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds for everything [480]")
    parser.add_argument("--only", choices=list(CHECKS), nargs="+", help="these checks alone (precisions need kernels)")
    arguments = parser.parse_args()
    if not arguments.binary.is_file():
        parser.error(f"no program at {arguments.binary}; the head of benches/gpu/check says how to build it")
    if not torch.__version__.startswith("2.11."):
        parser.error(f"PyTorch is {torch.__version__}; the program is built for 2.11")
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("PyTorch sees no card; rehearse with --device cpu --small")
    # Products of the comparison in full single precision.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    name = f"{datetime.date.today().isoformat()}-gpu{'-rehearsal' if arguments.small else ''}.md"
    path = arguments.record or HERE.parents[1] / "benches" / "record" / name
    with tempfile.TemporaryDirectory() as scratch:
        record = Record(path, "A card's checks", [], arguments.budget)
        run = Run(arguments.binary.resolve(), arguments.device, arguments.small, Path(scratch), record)
        record.facts = facts(run)
        for check in arguments.only or CHECKS:
            record.run(TITLES[check], lambda section, check=check: CHECKS[check](run, section))
    print(f"{path}: {'every figure is what it must be' if record.holds else 'NOT as it must be'}")
    return 0 if record.holds else 1


if __name__ == "__main__":
    sys.exit(main())
