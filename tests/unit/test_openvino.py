"""`engine="openvino"` against PyTorch on every kind of image tower, what it refuses, and what a result says of it."""

import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from clipnb import Embeddings, InputError, _runtime, encode_images, encode_texts, load_dataset, load_model, wrap_model
from clipnb.cli import main
from clipnb.models import Model
from clipnb.models._openvino import Network, with_openvino
from tests.support.shared import TINY, photographs
from tests.support.tiny_hub import make_checkpoint

SLOW = pytest.mark.slow  # exporting a tower takes seconds
VIT = TINY["vision_cfg"] | {"layers": 2, "patch_size": 8}
TOWERS = {
    "a transformer with a class token": VIT,
    "a transformer with an average": VIT | {"pool_type": "avg"},
    "a transformer with attention pooling": VIT | {"attentional_pool": True, "attn_pooler_heads": 2},
    "a ResNet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "a ConvNeXt of timm": {
        "image_size": 32,
        "timm_model_name": "convnext_atto",
        "timm_pool": "",
        "timm_proj": "linear",
    },
    "a transformer of timm": {
        "image_size": 160,
        "timm_model_name": "test_vit3",
        "timm_pool": "map",
        "timm_proj": "linear",
    },
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On busy cores, threads that wait for each other take long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(vision):
    """A model of open_clip with random weights."""
    import open_clip

    torch.manual_seed(0)
    module = open_clip.CLIP(**TINY | {"vision_cfg": vision}).eval().requires_grad_(False)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    preprocess = open_clip.image_transform(module.visual.image_size, is_train=False)
    return Model("tiny", "random", module, preprocess, tokenizer, torch.device("cpu"), "fp32")


def noise(count, side=32):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def agrees(model, pixels):
    """Compare both precisions with PyTorch for several sizes of a batch; fp32 is within 1e-6 on Intel and AMD."""
    exact = model.encode_pixels(pixels)
    full = with_openvino(model, "fp32")
    half = full.cast("bf16")
    for count in (1, 3, 16, 17):
        assert np.abs(full.encode_pixels(pixels[:count]) - exact[:count]).max() < 1e-5
        assert (half.encode_pixels(pixels[:count]) * exact[:count]).sum(axis=1).min() > 1 - 1e-3
    return full


@pytest.mark.parametrize("kind", [next(iter(TOWERS)), *(pytest.param(kind, marks=SLOW) for kind in list(TOWERS)[1:])])
def test_vectors_are_those_of_pytorch_for_towers_of_open_clip(kind):
    vision = TOWERS[kind]
    model = built(vision)
    assert agrees(model, noise(17, vision["image_size"])).capabilities == model.capabilities
    assert model.capabilities.skips_unread == (kind == "a transformer with a class token")


@SLOW
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_vectors_are_those_of_pytorch_for_towers_of_transformers(family, tmp_path):
    model = load_model(f"transformers:{make_checkpoint(family, tmp_path)}", device="cpu")
    compiled = agrees(model, noise(17))
    assert np.array_equal(encode_texts(compiled, ["a", "a longer one"]), encode_texts(model, ["a", "a longer one"]))
    assert compiled.padding_id == model.padding_id


@pytest.fixture(scope="module")
def mini():
    """The embedded model in bf16."""
    return load_model(engine="openvino", precision="bf16")


@pytest.fixture(scope="module")
def compiled(tiny):
    """The tiny model in fp32."""
    return with_openvino(tiny, "fp32")


@SLOW
def test_vectors_of_the_embedded_model(mini):
    data = load_dataset("icons").take(24)
    exact = encode_images(mini.exact(), data)
    found = encode_images(mini, data)
    assert (found.vectors * exact.vectors).sum(axis=1).min() > 1 - 2e-3  # PyTorch's own bf16: 1 - 1.0e-3
    assert found.provenance["engine"] == "openvino" and "engine" not in exact.provenance
    assert found.provenance["precision_check"]["images"] == 24
    assert found.provenance["precision_check"]["changed_predictions"] < 0.05


@pytest.mark.parametrize("threads", [1, 2])  # of torch: a batch is split into as many parts
def test_threads_that_encode_at_once_get_the_vectors_of_one(tiny, compiled, threads):
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        found = list(pool.map(compiled.encode_pixels, noise(80).split(5)))
    torch.set_num_threads(1)
    assert np.abs(np.concatenate(found) - tiny.encode_pixels(noise(80))).max() < 1e-5


def test_an_engine_and_a_precision_have_fingerprints_of_their_own(tiny, tiny_weights, compiled):
    full = load_model("tiny-clip", str(tiny_weights), engine="openvino")
    half = full.cast("bf16")
    assert len({tiny.fingerprint, tiny.cast("bf16").fingerprint, full.fingerprint, half.fingerprint}) == 4
    assert tiny.text_fingerprint == full.text_fingerprint == half.text_fingerprint
    assert (full.engine, full.exact, half.exact().engine, half.exact().precision) == ("openvino", None, "torch", "fp32")
    with pytest.raises(InputError, match=r"^Expected `precision` 'fp32' or 'bf16' with the engine .*, got 'fp16'; "):
        full.cast("fp16")
    assert full.fingerprint == compiled.fingerprint  # of the content, not of one compilation


def test_a_store_keeps_to_one_engine(tiny, compiled, pictures, tmp_path):
    data = load_dataset(f"folder:{pictures}")
    stored = encode_images(compiled, data, store=tmp_path / "s")
    assert np.array_equal(encode_images(compiled, data, store=tmp_path / "s").vectors, stored.vectors)
    assert Embeddings.load(tmp_path / "s").provenance["engine"] == "openvino"
    with pytest.raises(InputError, match="engine: 'openvino' there, None now"):
        encode_images(tiny, data, store=tmp_path / "s")


def test_loading_leaves_logging_and_modules_as_they_were(tiny, capfd, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    level, disabled = logging.root.level, logging.root.manager.disable
    with_openvino(tiny, "fp32").encode_pixels(noise(2))
    assert (logging.root.handlers, logging.root.level, logging.root.manager.disable) == ([], level, disabled)
    assert "openvino_telemetry" not in sys.modules  # it would report the import
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"engine": "onnx"}, "Expected `engine` to be one of 'torch', 'openvino', got 'onnx'"),
        (
            {"precision": "fp16"},
            "Expected `precision` 'fp32' or 'bf16' with the engine 'openvino', got 'fp16'; "
            "leave the engine out (--engine torch)",
        ),
        (
            {"device": "meta"},
            "Expected `device` 'auto' or 'cpu' with the engine 'openvino', which computes on the CPU, got 'meta'; "
            "leave the engine out (--engine torch)",
        ),
        (
            {"name": "sentence-transformers:clip"},
            "Expected a model of open_clip or transformers with the engine 'openvino', got "
            "'sentence-transformers:clip'; leave the engine out (--engine torch)",
        ),
        ({"name": "no-such-model"}, "Unknown model 'no-such-model'; close: "),
        ({"precision": "int8"}, "Expected `precision` to be one of 'fp32', 'bf16', 'fp16', got 'int8'"),
    ],
)
def test_options_that_it_cannot_take_are_refused(options, text):
    with pytest.raises(InputError) as caught:
        load_model(**{"engine": "openvino"} | options)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


def test_without_openvino_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "openvino.frontend.pytorch", raising=False)
    with pytest.raises(InputError) as caught:
        load_model(engine="openvino")
    assert str(caught.value) == (
        "Expected OpenVINO for the engine 'openvino', it is not installed; pip install 'clipnb[openvino]'"
    )


def refused(compile, *arguments):
    with pytest.raises(InputError) as caught:
        compile(*arguments)
    assert "\n" not in str(caught.value) and str(caught.value).endswith("; leave the engine out (--engine torch)")
    return str(caught.value)


@pytest.mark.parametrize(("family", "text"), [("siglip2", "which takes packed patches"), ("align", "AvgPool")])
def test_towers_that_cannot_be_converted_are_refused(family, text, tmp_path):
    model = load_model(f"transformers:{make_checkpoint(family, tmp_path)}", device="cpu")
    assert text in refused(with_openvino, model, "fp32")


def test_a_tower_whose_way_depends_on_its_pixels_is_refused():
    model = built(VIT | {"pool_type": "avg"})
    encode = model.module.encode_image

    def depends(pixels, normalize=False):
        return encode(pixels, normalize) if pixels.sum() > 1e9 else encode(-pixels, normalize)

    model.module.encode_image = depends
    assert refused(with_openvino, model, "fp32").startswith("Cannot run the image tower of 'tiny' by OpenVINO: ")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tower_that_is_converted_wrongly_is_refused(compiled, precision, monkeypatch):
    monkeypatch.setattr(Network, "__call__", lambda self, pixels: pixels.flatten(1)[:, :16])
    assert "its vectors differ from those of PyTorch by up to" in refused(compiled.cast, precision)


def test_telemetry_that_is_in_use_stays_as_it_is(monkeypatch):
    used = object()
    monkeypatch.setitem(sys.modules, "openvino_telemetry", used)
    _runtime.import_openvino()
    assert sys.modules["openvino_telemetry"] is used


def test_functions_have_no_engine_of_their_own():
    assert wrap_model(encode_images=np.ones, encode_texts=np.ones, name="mine").engine == "torch"


def test_the_command_line(tiny_weights, tmp_path):
    photographs(tmp_path / "images", ("cat", "dog"), 3)
    options = ["--model", "tiny-clip", "--pretrained", str(tiny_weights), "--dataset", f"folder:{tmp_path / 'images'}"]
    options += ["--engine", "openvino", "--json", str(tmp_path / "x.json")]
    for command in (["encode", "--store", str(tmp_path / "s")], ["evaluate", "--precision", "bf16"]):
        result = CliRunner().invoke(main, [*command, *options])
        assert result.exit_code == 0, result.output
        content = json.loads((tmp_path / "x.json").read_text("utf-8"))
        assert content["engine"] == "openvino"
    assert content["precision"] == "bf16" and content["precision_check"]["images"] == 6
    result = CliRunner().invoke(main, ["evaluate", *options, "--precision", "fp16"])
    assert result.exit_code and "leave the engine out" in result.output
