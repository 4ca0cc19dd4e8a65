import json
import pathlib
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from clipnb import encode_texts, load_model
from clipnb.cli import main
from clipnb.errors import InputError

from conftest import TINY


def refuses(text, *arguments, **options):
    with pytest.raises(InputError, match="^" + re.escape(text)) as caught:
        load_model(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tiny_weights, tmp_path):
    """The tiny model as a local directory."""
    (tmp_path / "local").mkdir()
    config = {"model_cfg": TINY, "preprocess_cfg": {}}
    (tmp_path / "local" / "open_clip_config.json").write_text(json.dumps(config))
    shutil.copy(tiny_weights, tmp_path / "local" / "open_clip_model.safetensors")
    return tmp_path / "local"


def test_the_embedded_model(model):
    assert (model.name, model.pretrained, model.precision) == ("clipnb-mini", "shipped", "fp32")
    assert not model.module.training and not any(p.requires_grad for p in model.module.parameters())
    assert encode_texts(model, ["dog"]).shape[1] == 256


def test_the_fingerprint_is_of_weights_and_preprocessing(tiny, tiny_weights, tmp_path):
    from safetensors.torch import load_file, save_file

    assert re.fullmatch("[0-9a-f]{16}", tiny.fingerprint)
    weights = load_file(tiny_weights)
    weights["visual.proj"][0, 0] += 1e-3
    save_file(weights, tmp_path / "other.safetensors")
    assert load_model("tiny-clip", str(tmp_path / "other.safetensors")).fingerprint != tiny.fingerprint


def test_one_code_path_for_names_checkpoints_and_folders(tiny, tiny_weights, folder, tmp_path):
    torch.save({"state_dict": tiny.module.state_dict()}, tmp_path / "tiny.pt")
    expected = encode_texts(tiny, ["dog", "a photo of a cat."])
    for name, pretrained in (("tiny-clip", tmp_path / "tiny.pt"), ("tiny-clip", str(tiny_weights)), (f"local-dir:{folder}", None)):
        loaded = load_model(name, pretrained)
        assert np.array_equal(encode_texts(loaded, ["dog", "a photo of a cat."]), expected)
        assert loaded.fingerprint == tiny.fingerprint


def test_unknown_names_are_told_with_close_ones():
    assert "ViT-B-32" in refuses("Unknown model 'ViT-B32'; close: ", "ViT-B32", "openai")
    assert "clipnb-mini" in refuses("Unknown model 'clipnb-min'; close: ", "clipnb-min")
    refuses("Unknown model ''; close: clipnb-mini; all: clipnb-mini, local-dir:PATH, hf-hub:ORGANISATION/NAME, or open_clip.list_models()", "")


def test_unknown_weights_are_told_with_the_known():
    text = refuses("Expected `pretrained` for model 'ViT-B-32': one of ", "ViT-B-32")
    assert "openai" in text and text.endswith("or a checkpoint file")
    assert "openai" in refuses("Unknown weights 'opnai' for model 'ViT-B-32': not a file, and not one of ", "ViT-B-32", "opnai")
    refuses("Expected no `pretrained` with model 'clipnb-mini' (its weights are shipped), got 'openai'", pretrained="openai")


def test_wrong_devices_and_precisions_are_told():
    for device in ("gpu", "cuda:99", ""):
        assert refuses(f"Device '{device}' cannot be used here: ", device=device).endswith("; try auto or cpu")
    refuses("Expected `precision` to be one of 'fp32', 'bf16', 'fp16', got 'int8'", precision="int8")
    refuses("Expected `precision` to be one of 'fp32', 'bf16', 'fp16', got 'auto'", precision="auto")


def test_a_folder_without_weights_is_no_random_model(folder):
    (folder / "open_clip_model.safetensors").unlink()
    refuses(f"Cannot load the model in {folder}: ", f"local-dir:{folder}")


def test_wrong_folders_are_told(folder, tmp_path):
    refuses("Expected no `pretrained` with model 'local-dir:", f"local-dir:{folder}", "openai")
    refuses("Expected a folder with open_clip_config.json, got /no/such", "local-dir:/no/such")
    for content in ("{", "{}", '{"model_cfg": {}}'):
        (folder / "open_clip_config.json").write_text(content)
        refuses(f"Cannot load the model in {folder}: ", f"local-dir:{folder}")


def test_wrong_checkpoints_are_told(tiny, tiny_weights, tmp_path):
    other = {key: value for key, value in tiny.module.state_dict().items() if "visual" not in key}
    torch.save(other, tmp_path / "half.pt")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("half.pt", "text.pt", "empty.safetensors"):
        refuses(f"Cannot load model 'tiny-clip' with weights '{tmp_path / name}': ", "tiny-clip", str(tmp_path / name))


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_checkpoint_cannot_run_code(tiny, tmp_path, save):
    save({"state_dict": tiny.module.state_dict() | {"x": Hostile(tmp_path / "owned")}}, tmp_path / "bad.pt")
    refuses(f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'bad.pt'}': ", "tiny-clip", str(tmp_path / "bad.pt"))
    assert not (tmp_path / "owned").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_is_loaded_when_it_is_trusted(tiny, pictures, tmp_path):
    content = {"state_dict": tiny.module.state_dict(), "options": pathlib.PurePosixPath("more than tensors")}
    torch.save(content, tmp_path / "own.pt")
    refuses(f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'own.pt'}': expected a file of tensors only, this is damaged or a pickle",
            "tiny-clip", str(tmp_path / "own.pt"))
    loaded = load_model("tiny-clip", str(tmp_path / "own.pt"), precision="fp32", trust_pickle=True)
    assert loaded.fingerprint == tiny.fingerprint
    options = ["evaluate", "--model", "tiny-clip", "--pretrained", str(tmp_path / "own.pt"), "--dataset", f"folder:{pictures}"]
    refused, done = CliRunner().invoke(main, options), CliRunner().invoke(main, [*options, "--trust-pickle"])
    assert refused.exit_code == 2 and refused.stderr.endswith("if it is your own: trust_pickle=True, --trust-pickle\n")
    assert done.exit_code == 0 and "accuracy" in done.output


def test_loading_is_quiet_and_leaves_logging_as_it_was(tiny_weights, capfd, caplog):
    import logging

    load_model("tiny-clip", str(tiny_weights))
    load_model()
    assert capfd.readouterr() == ("", "") and not caplog.records
    logging.getLogger("clipnb.test").warning("still heard")
    assert caplog.messages == ["still heard"]
