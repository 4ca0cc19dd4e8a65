"""Feed every parser of files with bytes guided by coverage (atheris): it must give an answer or an InputError.

    pip install atheris
    python -m tools.release.fuzz -max_total_time=600     # options of libFuzzer; failing input is kept as crash-...

The tests fuzz the same parsers with Hypothesis (tests/contract/test_fuzz.py), which knows what their input looks like
and needs no instrumented interpreter; this program finds input of other kinds.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["clipnb"]):
    from clipnb import describe, prompts
    from clipnb.datasets import load_dataset, with_classes
    from clipnb.embeddings import Embeddings
    from clipnb.errors import InputError
    from clipnb.paper import reproduce
    from clipnb.report import Report

FOLDER = TemporaryDirectory()
DATA = load_dataset("emoji").take(2)
PARSERS = {  # name of the file: what reads it, and something it takes
    "t.txt": (prompts.load_templates, b"a photo of a {}.\n"),
    "q.txt": (describe.load_query, b"What is a {classname}? Not {rivals}."),
    "d.json": (describe.load_descriptions, b'{"provenance": {}, "classes": {"cat": ["a cat"]}}'),
    "r.json": (Report.load, b'{"format": "clipnb-report-1", "kind": "Report", "summary": {}}'),
    "c.json": (
        reproduce.check_results,
        b'{"format": "clipnb-reproduce-1", "images_per_class": [1], "tables": {"as named": [{"method": "bare", '
        b'"right": [1]}]}}',
    ),
    "n.json": (lambda file: with_classes(DATA, file), b'{"categories": [{"id": 1, "name": "cat"}]}'),
    "n.csv": (lambda file: with_classes(DATA, file), b"folder,name\ncat,tabby\n"),
    "t.csv": (lambda file: load_dataset(f"table:{file}"), b"path,label\na.png,cat\n"),
    "t.parquet": (lambda file: load_dataset(f"table:{file}"), b"PAR1PAR1"),
    "s.tar": (lambda file: load_dataset(f"webdataset:{file}"), b"a.cls" + bytes(507)),
    "provenance.json": (
        lambda file: Embeddings.load(file.parent),
        b'{"format": "clipnb-embeddings-2", "shard_size": 1, "provenance": {"n": 1}, "classnames": ["x"]}',
    ),
}


def one(raw: bytes) -> None:
    name = list(PARSERS)[raw[0] % len(PARSERS)] if raw else "t.txt"
    file = Path(FOLDER.name, name)
    file.write_bytes(raw[1:])
    try:
        PARSERS[name][0](file)
    except InputError as error:
        assert str(error) and "\n" not in str(error)


if __name__ == "__main__":
    seeds = Path(FOLDER.name, "seeds")
    seeds.mkdir()
    for number, (_, seed) in enumerate(PARSERS.values()):
        (seeds / str(number)).write_bytes(bytes([number]) + seed)
    atheris.Setup([*sys.argv, str(seeds)], one)
    atheris.Fuzz()
