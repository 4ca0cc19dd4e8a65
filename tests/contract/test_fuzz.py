"""The parsers of everything that people and other programs write, fed with anything: an answer or an InputError in
one line, nothing else."""

import io
import json
import os
import sys
import tarfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import clipnb
from clipnb import describe, prompts
from clipnb.datasets import load_dataset, with_classes
from clipnb.embeddings import Embeddings, StoreWriter
from clipnb.errors import InputError
from clipnb.paper import reproduce
from clipnb.report import Report

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
words = st.text(max_size=40)
bounded = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
PARSERS = {}  # what is fuzzed: by which test; the page "What is promised" lists it


def parser(what):
    def keep(test):
        PARSERS[what] = f"test_fuzz.py::{test.__name__}"
        return test

    return keep


def answered(call, *arguments):
    try:
        return call(*arguments)
    except (InputError, describe.AnswerError) as error:
        assert str(error) and "\n" not in str(error)


@pytest.fixture
def file(tmp_path):
    def write(content, name="x.json"):
        raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        (tmp_path / name).write_bytes(raw)
        return tmp_path / name

    return write


@parser("templates: lists and files")
@bounded
@given(st.lists(words | st.none() | st.integers(), max_size=5) | words, st.binary(max_size=60))
@example(["{}", "{}"], b"\xff{}")
@example(["a\ud800{}"], b"\xef\xbb\xbf{}\n")
def test_templates(file, templates, raw):
    answered(prompts.check_templates, templates)
    answered(prompts.lint, ["cat"], templates)
    answered(prompts.load_templates, file(raw, "t.txt"))
    if isinstance(templates, str):
        answered(prompts.load_templates, templates)


@parser("classnames: lists, JSON, CSV, COCO")
@bounded
@given(anything, st.binary(max_size=60), st.sampled_from(["n.json", "n.csv", "n.txt"]))
@example({"categories": [{"id": 1, "name": "cat"}]}, b"cat,", "n.csv")
@example({"categories": [{"id": [], "name": None}]}, b"\0", "n.csv")
@example([["cat"]], b'"', "n.csv")
@example({"cat": 5}, b'"a\n', "n.csv")
def test_classnames(file, content, raw, name):
    data = load_dataset("emoji").take(2)
    answered(with_classes, data, file(json.dumps(content)))
    answered(with_classes, data, file(raw, name))
    if isinstance(content, list):
        answered(prompts.duplicate_classnames, content)
        answered(prompts.near_duplicate_classnames, content)


@parser("descriptions and prompt JSON")
@bounded
@given(anything, st.binary(max_size=60))
@example({"classes": {"cat": {"synonyms": [1]}}}, b"[")
@example({"cat": {"parents": {}}}, b"{")
@example({"cat": [["a"]]}, b"1e999")
def test_descriptions(file, content, raw):
    for whole in (content, {"provenance": content, "classes": content}, {"cat": content}):
        answered(describe.load_descriptions, file(json.dumps(whole)))
    answered(describe.load_descriptions, file(raw))


@parser("queries, and answers of language models")
@bounded
@given(words, anything)
@example("{classname.__class__}", ["a cat"])
@example("{0}{classname!r:>{count}}", None)
@example("{classname", "```json\n[]\n```")
def test_queries_and_answers(file, text, content):
    template = answered(describe.load_query, file(text, "q.txt"))
    if template:
        answered(describe.query, "cat", ["dog"], 5, None, template)
    for answer in (text, json.dumps(content), f"```json\n{text}\n```"):
        answered(describe.check_answer, answer, describe.Question("cat"), 1)
    answered(describe.refusal, text)


@parser("a store's JSON and shards")
@bounded
@given(anything, st.binary(max_size=60))
@example({"format": "clipnb-embeddings-2", "shard_size": 0, "provenance": {"n": 1}, "classnames": []}, b"")
@example({"format": "clipnb-embeddings-2", "shard_size": 1, "provenance": {"n": "1"}, "classnames": []}, b"PAR1")
@example({"format": "clipnb-embeddings-2", "shard_size": 5, "provenance": {"n": 1}, "classnames": 5}, b"PAR1")
@example({"format": "clipnb-embeddings-2", "shard_size": 5, "provenance": {"n": 1}, "classnames": ["x"]}, b"PAR1PAR1")
def test_stores(tmp_path, content, raw):
    for whole in (
        content,
        {"format": "clipnb-embeddings-2", "shard_size": 4, "provenance": {"n": 1, "x": content}, "classnames": ["x"]},
    ):
        (tmp_path / "provenance.json").write_text(json.dumps(whole), "utf-8")
        (tmp_path / "part-000000000.parquet").write_bytes(raw)
        answered(Embeddings.load, tmp_path)
        answered(StoreWriter, tmp_path, {"n": 1}, ["x"], 4)
    (tmp_path / "provenance.json").write_bytes(raw)
    answered(Embeddings.load, tmp_path)


@parser("reports and results that are read back")
@bounded
@given(anything, st.binary(max_size=60))
@example({"format": "clipnb-reproduce-1", "images_per_class": [0], "tables": {"a": [{"right": [0]}]}}, b"\xff")
@example({"format": "clipnb-report-1", "kind": "Report", "summary": 5}, b"[]")
@example([[1, 2], [3]], b"")
@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_reports_and_results(file, content, raw):
    for whole in (
        content,
        {"format": "clipnb-reproduce-1", "images_per_class": content, "tables": {"as named": content}},
    ):
        answered(reproduce.check_results, file(json.dumps(whole)))
    fields = {
        "summary": content,
        "advice": content,
        "findings": content,
        "worst": content,
        "classes": content,
        "wordings": content,
        "reliability": content,
        "unreadable": content,
        "images": content,
    }
    for whole in (content, {"format": "clipnb-report-1", "kind": "Report", **fields}):
        answered(Report.load, file(json.dumps(whole)))
    for read in (reproduce.check_results, Report.load):
        answered(read, file(raw))


@parser("manifests: tables of pictures (CSV, TSV, Parquet)")
@bounded
@given(
    st.lists(st.lists(words, max_size=3), max_size=4),
    st.binary(max_size=80),
    st.sampled_from(["t.csv", "t.tsv", "t.parquet"]),
)
@example([["path", "label"], ["a.png"]], b'path,label\n"', "t.csv")
@example([["path", "label"], ["a.png", "x", "y", "z"]], b"path\n\0", "t.csv")
@example([], b"path\na.png,cat\n", "t.csv")
@example([], b'paths,"a\nlabel"\n', "t.csv")
def test_tables(file, rows, raw, name):
    for header in ([], [["path", "label"]]):
        answered(load_dataset, f"table:{file(chr(10).join(','.join(row) for row in header + rows), 't.csv')}")
    answered(load_dataset, f"table:{file(raw, name)}")


@parser("manifests: WebDataset shards")
@bounded
@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=20), st.sampled_from([b"0", b"1", b"2", b"5"])),
        max_size=4,
    ),
    st.binary(max_size=600),
)
@example([("a.cls", b"99999999999999999999", b"0"), ("a.png", b"", b"0")], b"")
@example([("a.cls", b"", b"5"), ("a.png", b"", b"5")], b"\0" * 512)
def test_shards(tmp_path, members, raw):
    (tmp_path / "classnames.txt").write_text("cat\n")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content, kind in members:
            member = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
            member.size, member.type = len(content), kind
            archive.addfile(member, io.BytesIO(content))
    data = answered(load_dataset, f"webdataset:{tmp_path}/a.tar")
    for i in range(len(data or ())):
        answered(data.__getitem__, i)
    (tmp_path / "a.tar").write_bytes(raw)
    answered(load_dataset, f"webdataset:{tmp_path}/a.tar")


@parser("specs of data sets and models")
@bounded
@given(
    st.sampled_from(
        ["", "emoji:", "folder:", "imagenet:", "table:", "torchvision:", "torchvision:CIFAR10:", "webdataset:"]
    ),
    words,
)
@example("folder:", "\0")
@example("webdataset:", "[\0")
@example("table:", "*" * 300)
@example("folder:", "a" * 5000)
@example("folder:", "~nobody-of-that-name/x")
@example("torchvision:", "CIFAR10:\0")
@example("table:", "**/[")
def test_specs(tmp_path, monkeypatch, kind, rest):
    monkeypatch.chdir(tmp_path)  # nothing is here
    assert (
        answered(load_dataset, kind + rest) is None
        or (kind == "emoji:" and rest in ("", *clipnb.datasets.EMOJI_SPLITS))
        or kind + rest == "emoji"
    )
    if kind == "":
        answered(clipnb.load_model, "local-dir:" + rest)


@parser("notebook parameters")
@bounded
@given(words, words)
@example("dataset", '"; import os; "')
@example("1", "1_000")
@example("x", "9" * 5000)
@example("x", "inf")
def test_notebook_parameters(name, text):
    from papermill.translators import PythonTranslator

    from tools.book.run_notebooks import arguments, parse_value

    value = parse_value(text)
    found = {}
    exec(
        compile(PythonTranslator.codify({"p": value}), "parameters", "exec"), {"__builtins__": {"float": float}}, found
    )  # only literals, inf and nan
    assert found["p"] == value or value != value
    errors, sys.stderr = sys.stderr, io.StringIO()
    try:
        with pytest.raises(SystemExit) as ending:
            arguments(["-p", name, text, "no-such-notebook"])
        assert ending.value.code in (0, 2)  # 0: the name was -h
    finally:
        sys.stderr = errors


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_nested_without_end(file, opening):
    path = file(opening * 200_000)
    for read in (
        describe.load_descriptions,
        Report.load,
        reproduce.check_results,
        lambda path: with_classes(load_dataset("emoji").take(2), path),
    ):
        with pytest.raises(InputError) as caught:
            read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    os.rename(path, path.with_name("provenance.json"))
    with pytest.raises(InputError, match=r"^Cannot read "):
        Embeddings.load(path.parent)
