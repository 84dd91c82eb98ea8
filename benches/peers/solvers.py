"""Kernel regression beside scipy and scikit-learn, on the same kernels, in one run.

usage: solvers.py KERNELVIEW [--rows 1000,2000,4000] [--outputs 1] [--asymmetric] [--own] [--scratch DIR]

For each number of rows: makes kernels of random features, writes them as kernel files, runs `KERNELVIEW solve` on them, and
solves the same least-squares grid (regularizations 0, 0.001, 0.01, 0.1, 1 relative to the norm; f0 scalings 10, 100, 1000,
10000, infinity) with

  scipy, Cholesky   the norm by eigsh, then scipy.linalg.cho_factor a regularization
  scipy, eigh       one scipy.linalg.eigh
  KernelRidge       scikit-learn's, a regularization (not 0, which it cannot be sure to solve)
  SVC               scikit-learn's with a kernel, a regularization and an output; beside it our time is that of all solvers

With --asymmetric the kernel has no symmetry and one output, and the paper's system [[I/g, H], [H', I/g]] is solved by
scipy.linalg.solve(assume_a="sym"), four gammas and five scalings. --own leaves the peers out. Every line of JSON has seconds,
peak memory in MB, and the largest relative difference of losses on dev and test at the chosen settings.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

REGULARIZATIONS = [0.0, 0.001, 0.01, 0.1, 1.0]
SCALINGS = [10.0, 100.0, 1000.0, 10000.0, np.inf]
GAMMAS = [0.01, 0.1, 1.0, 10.0]
FEATURES = 1024
EXAMPLES = {"dev": 200, "test": 500}


def write(path: str, tensors: dict[str, np.ndarray], columns: str) -> None:
    """A kernel file: safetensors, written by hand so that no copy of a kernel is made."""
    header, end = {"__metadata__": {"format": "kernelview-kernel", "format_version": "1", "columns": columns}}, 0
    for name, array in tensors.items():
        kind = "I64" if array.dtype == np.int64 else "F64"
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            np.ascontiguousarray(array).tofile(file)


class Problem:
    """Kernels of random features of decreasing size, whose labels are learnable."""

    def __init__(self, rows: int, outputs: int, asymmetric: bool) -> None:
        random = np.random.default_rng(rows)
        sizes = (1.0 + np.arange(FEATURES) / 8.0) ** -0.5
        self.outputs, self.asymmetric = outputs, asymmetric
        count = {"train": rows // outputs, **EXAMPLES}
        centres = random.normal(size=(max(outputs, 2), FEATURES)) * sizes
        self.labels, features, self.logits = {}, {}, {}
        for split, n in count.items():
            labels = np.arange(n) % max(outputs, 2)
            noise = random.normal(size=(n, outputs, FEATURES)) * sizes * 2.0
            features[split] = (noise + centres[labels][:, None, :]).reshape(n * outputs, FEATURES)
            self.labels[split] = labels.astype(np.int64)
            self.logits[split] = random.normal(size=(n, outputs))
        left = features["train"]
        right = {s: np.sign(f) if asymmetric else f for s, f in features.items()}
        self.kernel = {split: left @ right[split].T for split in count}
        self.reversed = {s: right["train"] @ features[s].T for s in EXAMPLES} if asymmetric else {}
        self.kernel["train"][np.diag_indices(rows)] += 0.01 * np.trace(self.kernel["train"]) / rows

    def targets(self, split: str) -> np.ndarray:
        labels = self.labels[split]
        return 2.0 * labels - 1.0 if self.outputs == 1 else np.eye(self.outputs)[labels].reshape(-1)

    def save(self, directory: str) -> None:
        n, c = self.logits["train"].shape
        name = "kernel.asymmetric" if self.asymmetric else "kernel.sgd"
        for split, kernel in self.kernel.items():
            shape = (n, c, len(self.labels[split]), c)
            tensors = {name: kernel.reshape(shape), "labels": self.labels["train"], "logits": self.logits["train"]}
            if split != "train":
                tensors |= {"labels_right": self.labels[split], "logits_right": self.logits[split]}
                if self.asymmetric:
                    tensors["kernel.asymmetric_reversed"] = self.reversed[split].reshape(shape)
            write(f"{directory}/{split}.safetensors", tensors, split)

    def loss(self, split: str, predictions: np.ndarray, scaling: float) -> float:
        total = predictions + self.logits[split].reshape(-1) / scaling - self.targets(split)
        return float(total @ total) / len(self.labels[split])


def losses(problem: Problem, alphas: dict[tuple, np.ndarray]) -> dict[tuple, tuple[float, float]]:
    """Losses on dev and test of coefficients by setting; the last part of a setting is the scaling."""
    predicted = {s: problem.kernel[s].T @ np.stack(list(alphas.values()), 1) for s in EXAMPLES}
    return {
        setting: tuple(problem.loss(s, predicted[s][:, i], setting[-1]) for s in EXAMPLES)
        for i, setting in enumerate(alphas)
    }


def fitted(problem: Problem) -> np.ndarray:
    logits = problem.logits["train"].reshape(-1)
    return np.stack([problem.targets("train") - logits / s for s in SCALINGS], 1)


def by_cholesky(problem: Problem) -> dict:
    kernel = problem.kernel["train"]
    norm = scipy.sparse.linalg.eigsh(kernel, k=1, return_eigenvectors=False)[0]
    alphas = {}
    for r in REGULARIZATIONS:
        system = kernel.copy(order="F")
        system[np.diag_indices(len(kernel))] += r * norm
        factor = scipy.linalg.cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        solved = scipy.linalg.cho_solve(factor, fitted(problem), check_finite=False)
        alphas |= {(r, s): solved[:, i] for i, s in enumerate(SCALINGS)}
    return losses(problem, alphas)


def by_eigh(problem: Problem) -> dict:
    values, vectors = scipy.linalg.eigh(problem.kernel["train"], check_finite=False)
    inner, norm = vectors.T @ fitted(problem), np.abs(values).max()
    alphas = {}
    for r in REGULARIZATIONS:
        solved = vectors @ (inner / (values + r * norm)[:, None])
        alphas |= {(r, s): solved[:, i] for i, s in enumerate(SCALINGS)}
    return losses(problem, alphas)


def by_ridge(problem: Problem) -> dict:
    from sklearn.kernel_ridge import KernelRidge

    kernel = problem.kernel["train"]
    norm = scipy.sparse.linalg.eigsh(kernel, k=1, return_eigenvectors=False)[0]
    alphas = {}
    for r in REGULARIZATIONS[1:]:
        solved = KernelRidge(alpha=r * norm, kernel="precomputed").fit(kernel, fitted(problem)).dual_coef_
        alphas |= {(r, s): solved[:, i] for i, s in enumerate(SCALINGS)}
    return losses(problem, alphas)


def by_machines(problem: Problem) -> dict:
    from sklearn.svm import SVC

    found, c = {}, problem.outputs
    of = lambda split, output: problem.kernel[split][output::c, output::c]
    for r in REGULARIZATIONS:
        predictions = {s: np.empty((len(problem.labels[s]), c)) for s in EXAMPLES}
        for output in range(c):
            kernel = of("train", output).copy()
            norm = scipy.sparse.linalg.eigsh(kernel, k=1, return_eigenvectors=False)[0]
            kernel[np.diag_indices(len(kernel))] += r * norm
            target = np.where(problem.labels["train"] == (output if c > 1 else 1), 1, -1)
            machine = SVC(kernel="precomputed").fit(kernel, target)
            for s in EXAMPLES:
                decision = machine.decision_function(of(s, output).T)
                predictions[s][:, output] = decision if c == 1 else (1 + decision) / 2
        found[(r, 1.0)] = tuple(problem.loss(s, predictions[s].reshape(-1), np.inf) for s in EXAMPLES)
    return found


def by_system(problem: Problem) -> dict:
    """The paper's asymmetric system, signs on the training side."""
    kernel, found = problem.kernel["train"].T, {}
    n = len(kernel)
    for i, s in enumerate(SCALINGS):
        y = fitted(problem)[:, i]
        h = y[:, None] * kernel * y
        for gamma in GAMMAS:
            system = np.block([[np.eye(n) / gamma, h], [h.T, np.eye(n) / gamma]])
            solved = scipy.linalg.solve(system, np.ones(2 * n), assume_a="sym", overwrite_a=True, check_finite=False)
            alpha, beta = solved[:n] * y, solved[n:] * y
            for share in [0.0, 0.5, 1.0]:
                found[gamma, share, s] = tuple(
                    problem.loss(e, share * problem.reversed[e].T @ alpha + (1 - share) * problem.kernel[e].T @ beta, s)
                    for e in EXAMPLES
                )
    return found


def own(program: str, directory: str) -> tuple[dict, float, float]:
    """Results of `solve`, seconds and peak memory."""
    files = [f"{directory}/{split}.safetensors" for split in ["train", "dev", "test"]]
    command = [program, "solve", "--train", files[0], "--dev", files[1], "--test", files[2]]
    start = time.perf_counter()
    child = subprocess.Popen([*command, "--json", f"{directory}/solved.json"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    with open(f"{directory}/solved.json") as file:
        return json.load(file)["kernels"][0], seconds, usage.ru_maxrss / 1024


def number(text: str) -> float:
    return float(text.rsplit(" ", 1)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rows", default="1000,2000,4000")
    parser.add_argument("--outputs", type=int, default=1)
    parser.add_argument("--asymmetric", action="store_true")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--scratch")
    given = parser.parse_args()
    for rows in map(int, given.rows.split(",")):
        problem = Problem(rows, given.outputs, given.asymmetric)
        with tempfile.TemporaryDirectory(dir=given.scratch) as directory:
            problem.save(directory)
            if given.own:
                problem.kernel["train"] = problem.kernel["train"][:0]
            solved, seconds, memory = own(given.program, directory)
        line = {"rows": rows, "outputs": given.outputs, "asymmetric": given.asymmetric}
        names = [m["solver"] for m in solved["methods"]]
        print(json.dumps(line | {"who": "kernelview", "seconds": round(seconds, 2), "MB": round(memory), "solvers": names}))
        peers = {"scipy, system": by_system} if given.asymmetric else {
            "scipy, Cholesky": by_cholesky, "scipy, eigh": by_eigh, "KernelRidge": by_ridge, "SVC": by_machines
        }
        solvers = {"scipy, system": "asymmetric least squares", "SVC": "support vector machine"}
        for name, peer in {} if given.own else peers.items():
            solver = solvers.get(name, "least squares")
            chosen = next(m for m in solved["methods"] if m["solver"] == solver)
            setting = tuple(map(number, chosen["setting"].split(", ")))
            start = time.perf_counter()
            found = peer(problem)
            seconds = time.perf_counter() - start
            own_losses = (chosen["dev_loss"], chosen["test_loss"])
            gaps = [abs(a - b) / b for a, b in zip(own_losses, found[setting])] if setting in found else None
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps(line | {"who": name, "seconds": round(seconds, 2), "MB": round(peak), "gap": gaps and max(gaps)}))


if __name__ == "__main__":
    main()
