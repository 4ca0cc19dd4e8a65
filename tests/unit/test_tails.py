"""The published tables of real CLIP models, and the tool that computes them from the public results."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from clipnb import evaluate, worst
from clipnb.errors import InputError
from clipnb.paper import tails
from tools.release import imagenet_tails as tool


def test_every_run_counts_all_classes_and_its_accuracy_is_the_published_one():
    runs = tails.load()
    assert len(runs) == 63 and not runs.duplicated(["model", "pretrained", "prompts"]).any()
    assert (runs[tails.COUNTS].sum(axis=1) == 1000).all()
    right = runs[tails.COUNTS].to_numpy() @ np.arange(51)
    np.testing.assert_allclose(100 * right / 50_000, runs.accuracy_published, atol=0.01)
    assert sorted(runs.groupby("prompts").size().items()) == [("bare", 21), ("openai-80", 21), ("single", 21)]
    assert len(tails.load(large=True)) == 36


def test_scores_are_those_of_evaluate():
    """Images of two dimensions a class, right or wrong as counted, scored by the package's own evaluation."""
    right = np.array([0, 1, 25, 50])
    labels = np.repeat(np.arange(4), 50)
    predictions = np.where(np.tile(np.arange(50), 4) < right[labels], labels, (labels + 1) % 4)
    result = evaluate(np.eye(4)[predictions], np.eye(4), labels).scores(k=2)
    found = tails.scores(right, k=2)
    for name, score in found.items():
        if name != "harmonic_mean_floored":
            np.testing.assert_allclose(score, result[name], atol=1e-9, err_msg=name)
    assert found["harmonic_mean_floored"].value == worst.harmonic_mean(right / 50, floor=0.01)


def test_the_table_holds_what_the_book_cites():
    table = tails.table(tails.load()).set_index(["model", "pretrained", "prompts"])
    row = table.loc["ViT-B-32", "laion2b", "bare"]
    assert (round(100 * row.accuracy, 2), round(100 * row.worst_k, 1), row.classes_at_zero) == (64.16, 1.2, 5)
    assert row.accuracy_low < row.accuracy < row.accuracy_high
    change = tails.compare_prompts(tails.load(large=True), "bare", "single")
    assert len(change) == 12 and change.worst_k.min() > -2 and change.worst_k.max() < 10
    below = tails.compare_prompts(tails.load(large=True), "single", "openai-80").worst_k < 0
    assert below.sum() == 8


def test_the_worst_classes_by_name_are_those_that_are_counted():
    worst_of = tails.worst_named().groupby(["model", "pretrained", "prompts"]).right
    for _, row in tails.load().iterrows():
        ten = worst_of.get_group((row.model, row.pretrained, row.prompts))
        np.testing.assert_array_equal(ten, tails.right_by_class(row)[:10])
    assert "tights" in set(tails.worst_named().query("pretrained == 'laion2b' and prompts == 'bare'").classname)


def test_names():
    zeros = tails.zeros().set_index("classname")
    assert zeros.loc["tights"].tolist() == [12, 12, 11] and zeros.to_numpy().max() <= 12
    assert tails.nearest_names(3, of=["sunglasses"]).values.tolist() == [["sunglass", "sunglasses", 0.98]]
    assert tails.nearest_names(1000).cosine.is_monotonic_decreasing
    of_each = tails.nearest_of_each().set_index("name")
    assert len(of_each) == 1000 and of_each.nearest.isin(of_each.index).all()
    for a, b, cosine in tails.nearest_names().values.tolist():
        assert of_each.cosine[a] >= cosine <= of_each.cosine[b]


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: tails.right_by_class(pd.Series({"n_right_0": 3})), "without 'n_right_1'"),
        (lambda: tails.scores([51]), "`right` < 51"),
        (lambda: tails.scores([]), "at least one class, got none"),
        (lambda: tails.compare_prompts(tails.load(), "bare", "two"), "Expected `after` to be one of 'bare'"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_the_tool_counts_and_refuses_other_sets(tmp_path):
    rng = np.random.default_rng(0)
    for name in tool.FILES.values():
        run = {}
        for model in ("ViT-B-32", "RN50"):
            right = rng.integers(51, size=1000)
            names = {f"class {c}": 2.0 * r for c, r in enumerate(right)}
            run[f"backbone{model}_pretrainedlaion2b"] = {"full": right.sum() / 500, "classwise": names}
        (tmp_path / f"imagenet_{name}_results.json").write_text(json.dumps(run))
    runs = tool.read(tmp_path)
    table = tool.tails(runs)
    assert table[["model", "prompts"]].values.tolist()[:2] == [["RN50", "bare"], ["RN50", "single"]]
    expected = np.bincount(np.array(list(runs["RN50", "laion2b", "bare"]["classwise"].values())).astype(int) // 2)
    np.testing.assert_array_equal(table.loc[0, tails.COUNTS].to_numpy(dtype=int), expected)
    zeros = tool.zeros(runs)
    assert zeros.bare.sum() == table[table.prompts == "bare"].n_right_0.sum()
    worst_named = tool.worst_named(runs)
    assert len(worst_named) == 60 and worst_named.right.max() <= 2
    near = tool.nearest_of_each(["a", "b", "c"], np.array([[1, 0.5, 0.2], [0.5, 1, 0.9], [0.2, 0.9, 1]]))
    assert near.values.tolist() == [["a", "b", 0.5], ["b", "c", 0.9], ["c", "b", 0.9]]
    with pytest.raises(SystemExit, match="Expected 1000 classes of 50 images each"):
        tool.counts({"classwise": {"a": 2.0}})
    command = [sys.executable, "-m", "tools.release.imagenet_tails", str(tmp_path), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "imagenet_tails.csv differs" in done.stderr
    with pytest.raises(SystemExit, match=r"Expected imagenet_class_results.json in .*, got no such file"):
        tool.read(tmp_path / "none")
