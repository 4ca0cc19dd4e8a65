"""The graded assignment: a table of a model's answers for each student, and the check of what they hand in.

    python -m tools.book.assignment make anna ben --out assignment
    python -m tools.book.assignment check assignment/anna/answers.json ...

`make` draws other classes for every name and writes NAME/predictions.csv and an empty NAME/answers.json. `check` reads
the table beside each answers.json, computes the key from it and prints the points: 17 of the 20, the rest is read by a
person (book/assignment.md has the questions and the rubric). Exit codes: 0 done, 2 unusable arguments or files.
"""

import argparse
import csv
import json
import sys
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np

import clipnb
from clipnb import intervals, metrics

CLASSES, GUESSES = 20, 5
TOLERANCE = 0.0006  # answers are fractions with three decimals
POINTS = {
    "accuracy": 2,
    "accuracy_low": 1.5,
    "accuracy_high": 1.5,
    "chance": 1,
    "majority": 1,
    "mean_per_class_accuracy": 2,
    "recall_of_worst": 1.5,
    "precision_of_most_predicted": 1.5,
    "recall_at_5": 2,
    "classes_at_zero": 1,
    "most_frequent_mistake": 2,
}


def make(names: list[str], out: Path) -> None:
    """Write each student's table and an empty answer sheet."""
    data = clipnb.load_dataset("icons")
    clip = clipnb.load_model()
    vectors = clipnb.encode_images(clip, data).vectors
    texts = clipnb.zero_shot_classifier(clip, data.classnames)
    for name in names:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        classes = np.sort(rng.choice(len(data.classnames), CLASSES, replace=False))
        rows = np.flatnonzero(np.isin(data.labels, classes))
        result = clipnb.evaluate(
            vectors[rows], texts[classes], np.searchsorted(classes, data.labels[rows]), range(1, 6)
        )
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "predictions.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["image", "label", *(f"guess {k}" for k in range(1, GUESSES + 1))])
            for row, label, guesses in zip(rows, result.labels, result.topk, strict=True):
                table.writerow([data.ids[row], *(data.classnames[classes[c]] for c in (label, *guesses))])
        (folder / "answers.json").write_text(json.dumps(dict.fromkeys(POINTS), indent=2) + "\n", "utf-8")
        print(f"{folder}: {len(rows)} images of {CLASSES} classes")


def key(table: Path) -> dict[str, float | int | list[set[str]]]:
    """The right answers for a table; of the most frequent mistake every pair that ties."""
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    classes = sorted({row[1] for row in rows})
    labels = np.array([classes.index(row[1]) for row in rows])
    guesses = np.array([[classes.index(name) for name in row[2:]] for row in rows])
    confusion = metrics.confusion_matrix(guesses[:, 0], labels, len(classes))
    right = int(np.trace(confusion))
    share = intervals.proportion(right, len(rows))
    recall = metrics.per_class_accuracy(confusion)
    mistakes = confusion - np.diag(np.diag(confusion))
    pairs = [{classes[a], classes[b]} for a, b in np.argwhere(mistakes == mistakes.max())]
    return {
        "accuracy": share.value,
        "accuracy_low": share.low,
        "accuracy_high": share.high,
        "chance": 1 / len(classes),
        "majority": np.bincount(labels).max() / len(rows),
        "mean_per_class_accuracy": recall.mean(),
        "recall_of_worst": recall.min(),
        "precision_of_most_predicted": metrics.per_class_precision(confusion)[confusion.sum(axis=0).argmax()],
        "recall_at_5": (guesses == labels[:, None]).any(axis=1).mean(),
        "classes_at_zero": int((recall == 0).sum()),
        "most_frequent_mistake": pairs,
    }


def points(answers: dict[str, object], right: dict[str, float | int | list[set[str]]]) -> dict[str, float]:
    """Points for each answer; a missing or unreadable answer has none."""
    earned = {}
    for name, most in POINTS.items():
        given, expected = answers.get(name), right[name]
        if isinstance(expected, list):
            good = isinstance(given, list) and len(given) == 2 and {str(item) for item in given} in expected
        else:
            number = isinstance(given, int | float) and not isinstance(given, bool)
            good = number and abs(float(given) - expected) <= TOLERANCE
        earned[name] = most if good else 0.0
    return earned


def check(files: list[Path]) -> None:
    """Print the points of each answer sheet."""
    for file in files:
        try:
            answers = json.loads(file.read_text("utf-8"))
            right = key(file.parent / "predictions.csv")
        except (OSError, ValueError) as error:
            refuse(f"cannot read {file} with the predictions.csv beside it: {error}")
        if not isinstance(answers, dict):
            refuse(f"expected an object with {', '.join(POINTS)} in {file}")
        earned = points(answers, right)
        wrong = [name for name, got in earned.items() if not got]
        print(f"{file.parent.name}: {sum(earned.values()):g} of {sum(POINTS.values()):g} points")
        print(f"  to look at again: {', '.join(wrong) or 'nothing'}")


def refuse(message: str) -> NoReturn:
    """End with one line and exit code 2."""
    print(f"assignment: {message}", file=sys.stderr)
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # one line, without the usage text
        refuse(message)


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="tables and empty answer sheets")
    making.add_argument("names", nargs="+", metavar="NAME")
    making.add_argument("--out", type=Path, default=Path("assignment"))
    checking = commands.add_parser("check", help="points of answer sheets")
    checking.add_argument("files", nargs="+", type=Path, metavar="ANSWERS.json")
    args = parser.parse_args()
    if args.command == "make":
        make(args.names, args.out)
    else:
        check(args.files)


if __name__ == "__main__":
    main()
