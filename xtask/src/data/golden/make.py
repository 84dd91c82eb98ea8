"""Makes the golden files beside this one with NumPy and pandas: python3 make.py

shuffles.txt: what NumPy's legacy generator makes of a list shuffled twice.
splits.txt: SHA-256 of every file of the splits of four small made-up data sets, one of each layout. The data sets are
formulas, which tests.rs has too. The rule that makes splits of them is written here a second time, from NumPy's and
pandas' own functions.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
K, SEEDS = 4, (13, 42, 4294967295)
TEXTS = ["plain words", 'with "quotes"', "a, comma", "two\nlines", "null", "café – naïve", " spaces ", "None", "NA", "don't"]


def made_up():
    """Name: (train, {split: test}); rows as text."""
    def tsv(header, rows):
        return header + "\n" + "".join(row + "\n" for row in rows)

    def comma(rows):
        return "".join(",".join(quoted(field) for field in row) + "\r\n" for row in rows)

    def quoted(field):
        return '"' + field.replace('"', '""') + '"' if any(c in field for c in ' ,"\n') else field

    entailed, inferred = ("not_entailment", "entailment"), ("neutral", "entailment", "contradiction")
    question = lambda n: [f"{i}\tWho is {i}?\tIt is {i * i % 97}.\t{entailed[i * i % 7 % 2]}" for i in range(n)]
    pair = lambda n: [f"{i * i % 11 % 2}\t{i}\t{i + 1}\tOne {i}\tOther \u00a0{i} " for i in range(n)]
    inference = lambda n: [f"{i}" + "\tx" * 7 + f"\tA {i}\tB {i}\t{inferred[i * 7 % 13 % 3]}" for i in range(n)]
    review = lambda n: [[str(i * i % 23 % 2), TEXTS[i % 10] if i % 3 else f"{TEXTS[i % 10]} {i}"] for i in range(n)]
    news = lambda n: [[str(1 + i * i % 19 % 4), f"Title {i}", f"{TEXTS[i % 10]}, {i}"] for i in range(n)]
    long = "index" + "\tc" * 9 + "\tgold_label"
    return {
        "QNLI": (tsv("index\tquestion\tsentence\tlabel", question(300)),
                 {"test.tsv": tsv("index\tquestion\tsentence\tlabel", question(1200))}),
        # No end behind the last line, and the ends of another system.
        "MRPC": (tsv("\ufeffQuality\tid\tid\tone\tother", pair(90)).replace("\n", "\r\n"),
                 {"test.tsv": tsv("\ufeffQuality\tid\tid\tone\tother", pair(50))[:-1]}),
        "MNLI": (tsv(long, inference(400)), {"test_matched.tsv": tsv(long, inference(1001)),
                                             "test_mismatched.tsv": tsv(long, inference(1300))}),
        "mr": (comma(review(200)), {"test.csv": comma(review(1500))}),
        "ag_news": (comma(news(250)), {"test.csv": comma(news(900))}),
    }


def lines(text):
    with io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8") as file:
        return file.readlines()


def per_label(rows, label, start):
    groups = {}
    for row in rows:
        groups.setdefault(label(row), []).append(row)
    return [row for group in groups.values() for row in group[start:start + K]]


def tsv_splits(task, train, tests, seed):
    header, *rows = lines(train)
    np.random.seed(seed)
    np.random.shuffle(rows)
    label = lambda line: line.strip().split("\t")[0 if task == "MRPC" else -1]
    dev = "dev_matched.tsv" if task == "MNLI" else "dev.tsv"
    files = {"train.tsv": "".join([header, *per_label(rows, label, 0)]), dev: "".join([header, *per_label(rows, label, K)])}
    for name, text in tests.items():
        header, *rows = lines(text)
        if len(rows) > 1000:
            np.random.seed(42)
            np.random.shuffle(rows)
        files[name] = "".join([header, *rows[:1000]])
    return files


def csv_splits(task, train, tests, seed):
    frame = lambda text: pd.read_csv(io.StringIO(text), header=None, keep_default_na=False,
                                     na_values=sorted(pd._libs.parsers.STR_NA_VALUES - {"None"}))
    rows = frame(train).values.tolist()
    np.random.seed(seed)
    np.random.shuffle(rows)
    write = lambda data: data.to_csv(header=False, index=False, lineterminator="\n")
    files = {name: write(pd.DataFrame(per_label(rows, lambda row: row[0], start)))
             for name, start in (("train.csv", 0), ("dev.csv", K))}
    for name, text in tests.items():
        data = frame(text)
        files[name] = write(data.sample(n=1000, random_state=42) if len(data) > 1000 else data)
    return files


def shuffles():
    for seed in (0, 1, 13, 42, 87, 2**31, 2**32 - 1):
        for count in (1, 2, 3, 16, 17, 1000, 100_000):
            items = list(range(count))
            np.random.seed(seed)
            np.random.shuffle(items)
            array = np.array(items)
            np.random.shuffle(array)
            yield f"{seed} {count}: " + " ".join(map(str, array[:24]))


def splits():
    for task, (train, tests) in made_up().items():
        for seed in SEEDS:
            make = tsv_splits if next(iter(tests)).endswith("tsv") else csv_splits
            for name, text in sorted(make(task, train, tests, seed).items()):
                yield f"{task} {K}-{seed} {name} {hashlib.sha256(text.encode()).hexdigest()}"


if __name__ == "__main__":
    with_versions = f"# made by make.py with NumPy {np.__version__}"
    (HERE / "shuffles.txt").write_text("\n".join([with_versions, *shuffles()]) + "\n")
    (HERE / "splits.txt").write_text("\n".join([f"{with_versions}, pandas {pd.__version__}", *splits()]) + "\n")
