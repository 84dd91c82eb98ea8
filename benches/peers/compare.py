"""Times this project's engine and other programs in turn, and prints one Markdown report.

Every measurement is a process of its own, so that peak memory is its own; rounds alternate between the engine and the
peers, and the best of the rounds counts. See `run --help`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass
class Row:
    """One line of the report: what was measured, the best of the rounds."""

    name: str
    command: list[str]
    figures: dict[str, float] = field(default_factory=dict)
    failure: str = ""

    def measure(self) -> None:
        """Runs the command once more."""
        print(f"{self.name} …", file=sys.stderr, flush=True)
        done = subprocess.run(self.command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode != 0:
            killed = done.returncode in (-9, 137) or "MemoryError" in done.stderr or "allocate memory" in done.stderr
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            self.failure = "out of memory" if killed else last[:160]
            return
        if is_engine(self):
            found = engine_figures(done.stdout)
        else:
            found = json.loads(done.stdout.strip().splitlines()[-1])
        if not self.figures or found["seconds"] < self.figures["seconds"]:
            self.figures = found


def is_engine(row: Row) -> bool:
    """Whether a row is the engine's own."""
    return row.command[0] != sys.executable


def engine_figures(text: str) -> dict[str, float]:
    """Seconds and megabytes from the engine's table, by the names of its columns."""
    lines = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in text.splitlines() if line[:1] == "|"]
    header, values = lines[0], lines[-1]
    cells = dict(zip(header, values, strict=False))
    return {"seconds": float(cells["seconds"]), "peak_mb": float(cells["peak memory, MB"])}


def build_engine() -> str:
    """Builds the benchmark program and returns its path."""
    command = ["cargo", "bench", "--no-run", "--bench", "base_shape", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "base_shape")


def rows(engine: str, n: int, few: int, tokens: int) -> dict[str, Row]:
    """What is measured, by key."""

    def own(what: str, examples: int | str, formulas: str) -> Row:
        return Row(f"kernelview, {formulas}, N={examples}", [engine, f"{what}:{examples}:{formulas}:{tokens}"])

    def peer(name: str, key: str, examples: int) -> Row:
        return Row(f"{name}, N={examples}", [sys.executable, str(HERE / "peers.py"), key, str(examples), str(tokens)])

    return {
        "sgd": own("structured", n, "sgd"),
        "again": Row(f"kernelview, sgd, N={n}, second kernel of its process", [engine, f"again-structured:{n}:sgd:{tokens}"]),
        "vmap": peer("torch.func vmap(grad) + matmul, sgd", "vmap", n),
        "signgd": own("structured", n, "signgd"),
        "all": own("structured", n, "all"),
        "vmap-sign": peer("torch.func vmap(grad) + sign + matmul, signgd", "vmap-sign", n),
        "pairs": peer("the paper's scheme by pairs, sgd", "pairs", few),
        "pairs-sign": peer("the paper's scheme by pairs, signgd", "pairs-sign", few),
        "floor": Row(f"floor, sgd, N={n}", [engine, f"floor:{n}:sgd:{tokens}"]),
        "mlp": Row("kernelview, perceptron, N=64", [engine, "mlp-structured:64:sgd"]),
        "tangents": peer("neural-tangents, perceptron", "tangents", 64),
    }


def ratios(found: dict[str, Row], n: int) -> list[str]:
    """Lines of the table of ratios."""

    def figure(key: str, name: str = "seconds") -> float | None:
        return found[key].figures.get(name)

    def whole(key: str) -> float | None:
        # The scheme computes all N² pairs, and each outer example's gradient once.
        pair, example = figure(key, "per_pair"), figure(key, "per_example")
        return None if pair is None or example is None else n * n * pair + n * example

    lines = ["| ratio | value |", "|---|---:|"]

    def line(name: str, a: float | None, b: float | None, text: str = "") -> None:
        value = "n/a" if a is None or b is None else f"{a / b:.2f}"
        lines.append(f"| {name} | {value}{text if value != 'n/a' else ''} |")

    line("time of vmap(grad) + matmul over ours, sgd", figure("vmap"), figure("sgd"))
    line("peak memory of ours over vmap(grad) + matmul", figure("sgd", "peak_mb"), figure("vmap", "peak_mb"))
    line("time of vmap(grad) + sign + matmul over ours, signgd", figure("vmap-sign"), figure("signgd"))
    for key, own in (("pairs", "sgd"), ("pairs-sign", "signgd")):
        extrapolated = whole(key)
        note = "" if extrapolated is None else f" (extrapolated: {extrapolated:.0f} s)"
        line(f"time of the paper's scheme over ours, {own}", extrapolated, figure(own), note)
    line("all three kernels over sgd alone", figure("all"), figure("sgd"))
    line("sgd over the floor", figure("sgd"), figure("floor"))
    line("sgd, second kernel of its process, over the floor", figure("again"), figure("floor"))
    line("time of neural-tangents over ours, perceptron", figure("tangents"), figure("mlp"))
    return lines


def machine() -> str:
    """The machine in words."""
    cpu = next((l.split(":")[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in l), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GB of memory, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=32, help="examples of the kernels [32]")
    parser.add_argument("--pairs-of", type=int, default=3, help="examples whose pairs are timed one by one [3]")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an example [64]")
    parser.add_argument("--repeat", type=int, default=1, help="rounds; the best counts [1]")
    parser.add_argument("--engine", help="the built benchmark program [built by cargo]")
    parser.add_argument("--only", help="keys of rows, separated by commas")
    arguments = parser.parse_args()
    engine = arguments.engine or build_engine()
    found = rows(engine, arguments.examples, arguments.pairs_of, arguments.tokens)
    chosen = arguments.only.split(",") if arguments.only else list(found)
    unknown = [key for key in chosen if key not in found]
    if unknown:
        parser.error(f"--only: no row is called {', '.join(unknown)}; there are {', '.join(found)}")
    try:
        for _ in range(arguments.repeat):
            for key in chosen:
                found[key].measure()
    except KeyboardInterrupt:
        print("interrupted; what was measured so far:", file=sys.stderr)
    print(f"{machine()}; {arguments.tokens} tokens, single precision, best of {arguments.repeat}.\n")
    print("| what | seconds | peak memory, MB | more |\n|---|---:|---:|---|")
    for key in chosen:
        row = found[key]
        if row.figures:
            more = "; ".join(f"{k.replace('_', ' ')} {v:.3g} s" for k, v in row.figures.items() if k not in ("seconds", "peak_mb"))
            seconds = row.figures["seconds"]
            print(f"| {row.name} | {seconds:.4g} | {row.figures.get('peak_mb', 0):.0f} | {more} |")
        else:
            print(f"| {row.name} | {row.failure or 'not run'} | | |")
    print()
    print("\n".join(ratios(found, arguments.examples)))


if __name__ == "__main__":
    main()
