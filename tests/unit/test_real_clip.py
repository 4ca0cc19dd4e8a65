"""The script of the scheduled job, with the embedded model in place of OpenAI's weights and of the sets."""

import json

import pytest

import clipnb
from tools.release import real_clip


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """`reproduce.run` and `load_model` that stand in for the hub and for torchvision's sets."""
    asked = []
    embedded = clipnb.load_model()
    images = clipnb.encode_images(embedded, clipnb.load_dataset("emoji").take(range(60)))

    def run(dataset, model, pretrained, store):
        asked.append((dataset.split(":")[1], model, pretrained))
        images.save(store)
        return {"dataset": dataset}

    # One template, because hundreds of classes with eighteen take long.
    monkeypatch.setattr(real_clip, "TEMPLATES", {name: ["{}"] for name in real_clip.TEMPLATES})
    monkeypatch.setattr(real_clip.reproduce, "run", run)
    monkeypatch.setattr(real_clip.clipnb, "load_model", lambda *_, **__: embedded)
    return asked


def arguments(tmp_path):
    return ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "results")]


@pytest.mark.slow
def test_every_model_runs_on_every_set_and_differences_fail(runs, tmp_path):
    assert real_clip.main(arguments(tmp_path)) == 1  # the embedded model is not OpenAI's
    assert runs == [(name, model, "openai") for name in real_clip.SETS for model in real_clip.MODELS]
    for name in real_clip.SETS:
        for model in real_clip.MODELS:
            results = json.loads((tmp_path / "results" / f"{model}-{name}.json").read_text("utf-8"))
            assert ("clip_benchmark" in results) == ((model, name) in real_clip.PUBLISHED)
    assert results["clip_benchmark"]["published"] == 0.8893


@pytest.mark.slow
def test_a_figure_inside_the_interval_agrees(runs, tmp_path, monkeypatch):
    real_clip.main(arguments(tmp_path))
    file = tmp_path / "results" / "ViT-B-16-quickgelu-OxfordIIITPet.json"
    accuracy = json.loads(file.read_text("utf-8"))["clip_benchmark"]["accuracy"]
    monkeypatch.setattr(real_clip, "PUBLISHED", {("ViT-B-16-quickgelu", "OxfordIIITPet"): accuracy})
    assert real_clip.main(arguments(tmp_path)) == 0
    assert json.loads(file.read_text("utf-8"))["clip_benchmark"]["verdict"] == "agrees"


def test_templates_are_the_eighteen_of_cifar():
    templates = real_clip.TEMPLATES["CIFAR100"]
    assert (
        len(set(templates)) == 18 and templates[0] == "a photo of a {}." and templates[-1] == "a photo of the big {}."
    )
    assert "a black and white photo of the {}." in templates
