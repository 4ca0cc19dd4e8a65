import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from clipnb import Embeddings, encode_images, evaluate, load_dataset, prompt_vectors
from clipnb.cli import main
from clipnb.describe import QUERY, load_descriptions
from clipnb.errors import InputError
from clipnb.paper import methods
from tests.support.llm_server import KEY, good

TEMPLATES = ["{}", "a photo of a {}.", "clip art of a {}.", "a cartoon {}."]
TEXTS = {"cat": ["a cat with whiskers", "a grey cat"], "dog": ["a dog with long ears", "a brown dog"]}
KEYWORDS = {"cat": ["pet", "meow"], "dog": ["pet"], "fire truck": []}
COUNTS = {"cat": {"cat": 3, "kitty": 5}, "dog": {"dog": 9, "hound": 2}}


@pytest.fixture
def images(tiny, pictures):
    return encode_images(tiny, load_dataset(f"folder:{pictures}"))


@pytest.mark.slow
def test_every_row_is_there_and_is_what_it_says(tiny, images):
    names = images.classnames
    found = methods.compare_methods(tiny, images, names, None, "all", TEMPLATES, TEXTS, KEYWORDS, 1, name_counts=COUNTS)
    assert list(found.results) == [row.name for row in methods.ROWS] and list(found.not_run) == ["another backbone"]
    bank = prompt_vectors(tiny, names, TEMPLATES)
    for row, prompt in (("bare", bank[0]), ("single", bank[1])):
        assert np.array_equal(found.results[row].topk, evaluate(images.vectors, prompt).topk)
    assert np.allclose(found.weights["uniform"], 0.25) and found.weights["cmm-per-class"].shape == (4, 3)
    renamed = prompt_vectors(tiny, ["kitty" if name == "cat" else name for name in names], ["{}"])[0]
    assert np.array_equal(found.results["real-prompt"].topk, evaluate(images.vectors, renamed).topk)
    assert found.weights["autoclip"].shape == (12, 4) and sorted(found.weights["cmm-top"]) == [0, 0, 0.5, 0.5]
    assert not np.allclose(found.weights["cmm"], found.weights["oracle"])
    assert sorted(names[c] for c in found.flagged) == ["cat", "dog"]  # those that have descriptions
    assert set(found.texts) == {"descriptions", "keywords", "random", "random-letters", "shuffled"}
    for row in ("descriptions", "random", "random-letters", "shuffled"):
        assert {names[c]: len(texts) for c, texts in found.texts[row].items()} == {"cat": 2, "dog": 2}
    assert found.texts["keywords"][names.index("cat")] == ["cat, pet", "cat, meow"]
    assert all(np.allclose(weights, 0.5) for weights in found.text_weights["descriptions-uniform"].values())
    rows = found.rows(k=1)
    assert [row["method"] for row in rows] == [row.name for row in methods.ROWS]
    for row in rows:
        assert (
            sum(row["weights"].values()) == pytest.approx(1) if row["method"] in found.weights else "weights" not in row
        )
    assert set(found.against(k=1)) == set(methods.TEXT_ROWS) - {"descriptions"}


def test_one_method_brings_its_variants_and_encodes_no_more(tiny, images):
    def rows(method, **options):
        return list(
            methods.compare_methods(
                tiny, images, images.classnames, None, method, TEMPLATES, TEXTS, KEYWORDS, **options
            ).results
        )

    assert rows("zpe") == ["bare", "zpe"]
    assert rows("cmm") == ["bare", "cmm", "cmm-class-means", "cmm-worst", "cmm-per-class", "cmm-top", "cmm-half"]
    assert rows("random") == ["bare", "random", "random-letters"]
    assert rows("descriptions", enrich=1)[:2] == ["bare", "descriptions"]


@pytest.mark.slow
def test_what_cannot_run_is_said(tiny, images):
    unlabelled = Embeddings(images.vectors, np.full(12, -1), images.ids, images.classnames)
    found = methods.compare_methods(tiny, images, images.classnames, unlabelled, "all", TEMPLATES, {"owl": ["an owl"]})
    assert {"greedy", "oracle", "descriptions", "shuffled", "random", "keywords", "another backbone"} <= set(
        found.not_run
    )
    assert "cmm" in found.results and not set(found.results) & set(found.not_run) and found.against() == {}
    found = methods.compare_methods(tiny, images, images.classnames, unlabelled, "all", TEMPLATES, TEXTS)
    assert (
        found.not_run["keywords"] == "the data set has no keywords"
        and found.not_run["real-prompt"] == "the data set has no counts of other names"
        and "descriptions-oracle" in found.not_run
        and "shuffled" in found.results
    )
    json.dumps(found.rows(), allow_nan=False, default=float)


def test_the_weights_come_from_the_images_that_are_to_fit(tiny, images):
    other = Embeddings(
        images.vectors[::-1].copy() * np.r_[[1.0] * 8, [-1.0] * 8], images.labels, images.ids, images.classnames
    )
    here = methods.compare_methods(tiny, images, images.classnames, None, "cmm", TEMPLATES)
    there = methods.compare_methods(tiny, images, images.classnames, other, "cmm", TEMPLATES)
    assert not np.allclose(here.weights["cmm"], there.weights["cmm"])
    assert np.array_equal(here.results["bare"].topk, there.results["bare"].topk)
    assert np.array_equal(here.results["cmm-half"].topk, there.results["cmm-half"].topk)  # takes its own two halves
    with pytest.raises(InputError, match=r"^Expected `fit` of width D = 16, got 4: vectors of another model$"):
        methods.compare_methods(
            tiny, images, images.classnames, Embeddings(np.eye(4), np.zeros(4, int), list("abcd"), images.classnames)
        )
    with pytest.raises(InputError, match=r"^Expected `method` to be one of 'all', 'single', .*, got 'best'$"):
        methods.compare_methods(tiny, images, images.classnames, method="best")


@pytest.fixture
def clipnb(tiny_weights, pictures):
    def run(command, *arguments, dataset=f"folder:{pictures}"):
        fixed = ["--model", "tiny-clip", "--pretrained", str(tiny_weights), "--dataset", dataset]
        return CliRunner().invoke(main, [command, *fixed, *map(str, arguments)])

    return run


def refused(result, text):
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1, result.output
    assert re.match("clipnb: " + text, result.stderr), result.stderr


@pytest.mark.slow
def test_ensemble_prints_a_table_and_writes_json(clipnb, pictures, tmp_path):
    (tmp_path / "d.json").write_text(json.dumps(TEXTS))
    result = clipnb(
        "ensemble",
        "--descriptions",
        tmp_path / "d.json",
        "--templates",
        "drawing",
        "--worst",
        2,
        "--json",
        tmp_path / "out.json",
    )
    assert result.exit_code == 0 and result.stderr == "", result.output
    found = json.loads((tmp_path / "out.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    without = {"keywords", "real-prompt"}  # a folder has neither
    assert [row["method"] for row in found["rows"]] == [row.name for row in methods.ROWS if row.name not in without]
    for row in found["rows"]:
        assert row["n"] == 12 and f"\n  {row['method']} " in result.stdout
        for name in ("accuracy", "mean_per_class_accuracy", "classes_at_zero", "flagged_accuracy"):
            assert row[f"{name}_ci"][0] <= row[name] <= row[f"{name}_ci"][1]
        if row["method"] != "bare":
            assert {what["verdict"] for what in row["difference"].values()} <= {"better", "worse", "no", None}
    assert found["not_run"] == {
        "another backbone": "no second model is shipped; run again with another model",
        "keywords": "the data set has no keywords",
        "real-prompt": "the data set has no counts of other names",
    }
    assert found["templates_provenance"] == {
        "source": "drawing",
        "origin": "clipnb",
        "count": 10,
        "sha256": found["templates_provenance"]["sha256"],
    }
    assert (
        found["descriptions"]["kind"] == "sentences"
        and set(found["flagged"]) == {"cat", "dog"}
        and found["fit"] == f"folder:{pictures}"
    )
    one = clipnb("ensemble", "--method", "zpe", "--fit", f"folder:{pictures}", "--json", "-")
    assert [row["method"] for row in json.loads(one.stdout)["rows"]] == ["bare", "zpe"]
    refused(clipnb("ensemble", "--method", "best"), "Expected `--method` to be one of 'all', 'single'")
    refused(
        clipnb("ensemble", "--descriptions", "no.json"),
        "Expected 'emoji', 'icons' or a JSON file of descriptions, got no.json",
    )
    refused(
        clipnb("ensemble", "--fit", "emoji:validation"),
        "Expected --fit emoji:validation to have the classes of folder:",
    )


def test_describe_uses_the_shipped_descriptions_where_nobody_is_asked(clipnb, pictures, tmp_path):
    drawings = (
        "describe",
        "--dataset",
        "emoji:validation",
        "--worst",
        20,
        "--out",
        tmp_path / "d.json",
        "--json",
        tmp_path / "out.json",
    )
    result = clipnb(*drawings)
    assert result.exit_code == 0 and "near-duplicate classname" in result.stderr, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert (
        found["source"] == "shipped"
        and set(found["without"]) | set(found["classes"]) == set(found["worst"])
        and len(found["worst"]) == 20
    )
    assert found["classes"] and load_descriptions(tmp_path / "d.json").by_class == found["classes"]
    photographs = clipnb("describe", "--json", "-")
    assert photographs.exit_code == 0 and photographs.stderr.startswith(
        f"clipnb: no descriptions are shipped for folder:{pictures}; --llm"
    )
    found = json.loads(photographs.stdout)
    assert found["source"] is None and set(found["without"]) == {"cat", "dog", "fire truck"} and found["classes"] == {}


def test_describe_asks_a_server(clipnb, serve, tmp_path):
    server = serve(lambda name, turn, _: (200, {}, good(name)))
    arguments = [
        "--llm",
        "openai/test-model",
        "--api-base",
        server.url,
        "--count",
        2,
        "--cache",
        tmp_path / "cache",
        "--out",
        tmp_path / "d.json",
    ]
    refused(clipnb("describe", *arguments), "No price is known for the model 'openai/test-model'")
    refused(
        clipnb("describe", *arguments, "--price", "1"),
        "Expected --price IN,OUT in US dollars per million tokens, such as 0.15,0.60, got 1",
    )
    arguments += ["--price", "0.15,0.6"]
    dry = clipnb("describe", *arguments, "--dry-run")
    assert dry.exit_code == 0 and re.match(
        r"openai/test-model: 3 calls, up to \d+ tokens in and 1800 out, up to \$0.00\d+; ceiling \$1.0000\n$",
        dry.stderr,
    )
    assert "You describe images" in dry.stdout and server.seen == [] and not (tmp_path / "d.json").exists()
    result = clipnb("describe", *arguments, "--json", tmp_path / "out.json")
    assert result.exit_code == 0 and len(server.seen) == 3, result.output
    written = load_descriptions(tmp_path / "d.json")
    assert written.by_class == json.loads((tmp_path / "out.json").read_text())["classes"] and len(written.by_class) == 3
    assert written.provenance["written_by"] == "openai/test-model" and written.provenance["query"] == QUERY
    again = clipnb("describe", *arguments, "--json", "-")
    assert (
        json.loads(again.stdout)["calls"] == 0
        and again.stderr.startswith("openai/test-model: 0 calls")
        and len(server.seen) == 3
    )
    assert KEY not in result.output + again.output + "".join(path.read_text() for path in tmp_path.rglob("*.json"))


def test_describe_leaves_no_file_that_looks_finished(clipnb, serve, tmp_path):
    up = []
    server = serve(
        lambda name, turn, _: (
            (200, {}, good(name)) if name != "dog" or up else (500, {}, b'{"error": {"message": "oops"}}')
        )
    )
    arguments = [
        "--llm",
        "openai/test-model",
        "--api-base",
        server.url,
        "--count",
        2,
        "--cache",
        tmp_path / "cache",
        "--price",
        "0,0",
        "--retries",
        1,
        "--out",
        tmp_path / "d.json",
    ]
    result = clipnb("describe", *arguments)
    assert (
        result.exit_code == 1
        and "1 of 3 classes got no answer ('dog': InternalServerError" in result.stderr
        and not (tmp_path / "d.json").exists()
    )
    up.append(True)
    calls = len(server.seen)
    assert (
        clipnb("describe", *arguments).exit_code == 0
        and len(server.seen) == calls + 1
        and len(load_descriptions(tmp_path / "d.json").by_class) == 3
    )


def test_describe_writes_no_file_of_nothing(clipnb, serve, tmp_path):
    server = serve(lambda name, turn, _: (200, {}, "I would rather not."))
    result = clipnb(
        "describe",
        "--llm",
        "openai/test-model",
        "--api-base",
        server.url,
        "--cache",
        tmp_path / "cache",
        "--price",
        "0,0",
        "--out",
        tmp_path / "d.json",
    )
    assert (
        result.exit_code == 1
        and "none of 3 classes got an answer that can be used" in result.stderr
        and not (tmp_path / "d.json").exists()
    )
    assert len(server.seen) == 9 and result.stderr.count("it is not a complete JSON list") == 9


def test_describe_writes_the_query_to_be_edited(clipnb, tmp_path):
    path = tmp_path / "query.txt"
    result = clipnb("describe", "--query", path)
    assert result.exit_code == 0 and "edit it and run again" in result.stdout and path.read_text() == QUERY + "\n"
    path.write_text("What is {class}?")
    refused(clipnb("describe", "--query", path), r"Unknown field \{class\} in the query")
