import copy
import dataclasses
import json
import pathlib
import pickle
import re
import shutil
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from clipnb import encode_texts, load_model
from clipnb.cli import main
from clipnb.errors import InputError
from clipnb.models import EMBEDDED_DIR, Preprocess
from tests.support.shared import TINY
from tools.mini.facts import facts


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


def test_the_embedded_model_is_opened_when_something_is_encoded():
    model = load_model(device="cpu")
    assert model.fingerprint and model.text_fingerprint and model.settings and model.dimensions == 256
    assert "module" not in vars(model)
    assert copy.deepcopy(model).fingerprint == model.fingerprint
    assert model.encode_tokens(model.tokenizer(["dog"])).shape == (1, model.dimensions)
    assert "module" in vars(model)


def test_what_is_known_of_the_embedded_model_is_what_its_network_gives():
    known = json.loads((EMBEDDED_DIR / "facts.json").read_text("utf-8"))
    measured = facts()
    # An exponential, whose last bit differs between processors.
    assert known.pop("logit_scale") == pytest.approx(measured.pop("logit_scale"), rel=1e-6)
    assert known == measured, "python -m tools.mini.facts, then tools.release.checksums"


def test_a_changed_copy_of_the_embedded_model_has_fingerprints_of_its_own(model):
    other = copy.deepcopy(model.module)
    other.logit_scale.data += 1
    changed = dataclasses.replace(model, module=other)
    assert changed.fingerprint != model.fingerprint and changed.text_fingerprint != model.text_fingerprint
    assert changed.logit_scale > model.logit_scale
    assert dataclasses.replace(model).fingerprint == model.fingerprint


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
    for name, pretrained in (
        ("tiny-clip", tmp_path / "tiny.pt"),
        ("tiny-clip", str(tiny_weights)),
        (f"local-dir:{folder}", None),
    ):
        loaded = load_model(name, pretrained)
        assert np.array_equal(encode_texts(loaded, ["dog", "a photo of a cat."]), expected)
        assert loaded.fingerprint == tiny.fingerprint


def test_unknown_names_are_reported_with_close_ones():
    assert "ViT-B-32" in refuses("Unknown model 'ViT-B32'; close: ", "ViT-B32", "openai")
    assert "clipnb-mini" in refuses("Unknown model 'clipnb-min'; close: ", "clipnb-min")
    refuses(
        "Unknown model ''; close: clipnb-mini; all: clipnb-mini, local-dir:PATH, "
        "hf-hub:ORGANISATION/NAME, transformers:NAME_OR_PATH, sentence-transformers:NAME_OR_PATH, "
        "or open_clip.list_models()",
        "",
    )


def test_unknown_weights_are_reported_with_the_known_tags():
    text = refuses("Expected `pretrained` for model 'ViT-B-32': one of ", "ViT-B-32")
    assert "openai" in text and text.endswith("or a checkpoint file")
    assert "openai" in refuses(
        "Unknown weights 'opnai' for model 'ViT-B-32': not a file, and not one of ", "ViT-B-32", "opnai"
    )
    refuses(
        "Expected no `pretrained` with model 'clipnb-mini' (its weights are shipped), got 'openai'", pretrained="openai"
    )


def test_wrong_devices_and_precisions_are_reported():
    refuses("Expected `device` to be a non-empty string, got ''", device="")
    for device in ("gpu", "cuda:99"):
        assert refuses(f"Device '{device}' cannot be used here: ", device=device).endswith("; try auto or cpu")
    refuses("Expected `precision` to be one of 'fp32', 'bf16', 'fp16', got 'int8'", precision="int8")
    refuses("Expected `precision` to be one of 'fp32', 'bf16', 'fp16', got 'auto'", precision="auto")


def test_a_folder_without_weights_is_no_random_model(folder):
    (folder / "open_clip_model.safetensors").unlink()
    refuses(f"Cannot load the model in {folder}: ", f"local-dir:{folder}")


def test_wrong_folders_are_reported(folder, tmp_path):
    refuses("Expected no `pretrained` with model 'local-dir:", f"local-dir:{folder}", "openai")
    refuses("Expected a folder with open_clip_config.json, got /no/such", "local-dir:/no/such")
    for content in ("{", "{}", '{"model_cfg": {}}'):
        (folder / "open_clip_config.json").write_text(content)
        refuses(f"Cannot load the model in {folder}: ", f"local-dir:{folder}")


def test_wrong_checkpoints_are_reported(tiny, tiny_weights, tmp_path):
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
    refuses(
        f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'bad.pt'}': ", "tiny-clip", str(tmp_path / "bad.pt")
    )
    assert not (tmp_path / "owned").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_is_loaded_when_it_is_trusted(tiny, pictures, tmp_path):
    content = {"state_dict": tiny.module.state_dict(), "options": pathlib.PurePosixPath("more than tensors")}
    torch.save(content, tmp_path / "own.pt")
    refuses(
        f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'own.pt'}': expected a file of "
        "tensors only, this is damaged or a pickle",
        "tiny-clip",
        str(tmp_path / "own.pt"),
    )
    loaded = load_model("tiny-clip", str(tmp_path / "own.pt"), precision="fp32", trust_pickle=True)
    assert loaded.fingerprint == tiny.fingerprint
    options = [
        "evaluate",
        "--model",
        "tiny-clip",
        "--pretrained",
        str(tmp_path / "own.pt"),
        "--dataset",
        f"folder:{pictures}",
    ]
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


def test_loading_leaves_the_progress_bars_of_hugging_face_as_they_were(tiny_weights):
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as hf_logging

    before = hf_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    try:
        for loading, switch in (
            (hf_logging.enable_progress_bar, enable_progress_bars),
            (hf_logging.enable_progress_bar, disable_progress_bars),
            (hf_logging.disable_progress_bar, enable_progress_bars),
            (hf_logging.disable_progress_bar, disable_progress_bars),
        ):
            loading()
            switch()
            state = hf_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
            load_model("tiny-clip", str(tiny_weights))
            with pytest.raises(InputError):
                load_model("tiny-clip", __file__)
            assert (hf_logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == state
    finally:
        (hf_logging.enable_progress_bar if before[0] else hf_logging.disable_progress_bar)()
        (disable_progress_bars if before[1] else enable_progress_bars)()


# Settings -------------------------------------------------------------------------------------------------------------

OPENAI = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear", "resize_mode": "squash"}
TEXTS = ["dog", "a photo of a cat."]


@pytest.fixture
def register(tiny_weights, tmp_path, monkeypatch):
    """Registers an architecture of the tiny model's shapes and weights, with tags of these records."""
    import open_clip
    from open_clip.pretrained import _PRETRAINED

    def registered(name, tags, **config):
        (tmp_path / f"{name}.json").write_text(json.dumps(TINY | config))
        open_clip.add_model_config(tmp_path / f"{name}.json")
        monkeypatch.setitem(
            _PRETRAINED, name, {tag: {"file": str(tiny_weights)} | record for tag, record in tags.items()}
        )

    return registered


def activations(model):
    """Names of the activations in the image tower and in the text tower."""
    return [
        {type(block.mlp.gelu).__name__ for block in tower.resblocks}
        for tower in (model.module.visual.transformer, model.module.transformer)
    ]


def test_every_registered_tag_is_built_with_the_settings_of_its_record(monkeypatch):
    """Every name and tag of open_clip through `load_model`; a stand-in records the settings instead of a model."""
    import open_clip
    from open_clip import factory
    from open_clip.transform import PreprocessCfg, image_transform_v2

    class Recorder(torch.nn.Module):
        def __init__(self, quick_gelu=False, **config):
            super().__init__()
            self.quick_gelu, self.visual = quick_gelu, torch.nn.Identity()
            self.visual.image_size = config["vision_cfg"].get("image_size", 224)

        def encode_text(self, tokens):
            return torch.ones(len(tokens), 4)

    for name in ("CLIP", "CustomTextCLIP", "CoCa"):
        monkeypatch.setattr(factory, name, Recorder)
    monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: "no file")
    monkeypatch.setattr(factory, "load_checkpoint", lambda *_, **__: None)
    monkeypatch.setattr(
        open_clip, "get_tokenizer", lambda name: lambda texts: torch.zeros(len(texts), 77, dtype=torch.long)
    )
    tags, differing, wrong = open_clip.list_pretrained(), [], []
    for name, tag in tags:
        record, architecture = open_clip.get_pretrained_cfg(name, tag), open_clip.get_model_config(name)
        assert set(record) <= {"url", "hf_hub", "quick_gelu", *OPENAI}, (
            f"open_clip's record of {name}, {tag} states something new"
        )
        size = architecture["vision_cfg"].get("image_size", 224)
        pixels = image_transform_v2(PreprocessCfg(size=size, **{key: record[key] for key in OPENAI}), is_train=False)
        activation = record.get("quick_gelu", architecture.get("quick_gelu", False))
        if activation != architecture.get("quick_gelu", False) or any(
            record[key] != value for key, value in OPENAI.items()
        ):
            differing.append((name, tag))
        model = load_model(name, tag, device="cpu")
        if (model.module.quick_gelu, repr(model.preprocess), model.config["architecture"]["quick_gelu"]) != (
            activation,
            repr(Preprocess(pixels.transforms)),
            activation,
        ):
            wrong.append((name, tag))
    print(
        f"{len(tags)} tags of {len({name for name, _ in tags})} names; the settings of "
        f"{len(differing)} differ from the plain architecture; {len(wrong)} built wrong"
    )
    assert (
        not wrong
        and len(tags) >= 196
        and {("ViT-B-32", "openai"), ("ViT-L-14", "laion2b_s32b_b82k"), ("PE-Core-T-16-384", "meta")} <= set(differing)
    )


@pytest.mark.parametrize(
    ("architecture", "record", "expected"),
    [
        ({}, {"quick_gelu": True}, "QuickGELU"),  # ViT-B-32, openai
        ({}, {"quick_gelu": False}, "GELU"),
        ({}, {}, "GELU"),
        ({"quick_gelu": True}, {"quick_gelu": True}, "QuickGELU"),  # ViT-B-32-quickgelu, openai
        ({"quick_gelu": True}, {"quick_gelu": False}, "GELU"),
        (
            {"quick_gelu": True},
            {},
            "QuickGELU",
        ),  # roberta-ViT-B-32: the record states nothing, so the architecture stays as it is
        ({"quick_gelu": True, "custom_text": True}, {"quick_gelu": False}, "GELU"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_the_activation_is_that_of_the_record(register, architecture, record, expected):
    register("tiny-pair", {"some_tag": record}, **architecture)
    model = load_model("tiny-pair", "some_tag")
    blocks = [part for part in model.module.modules() if type(part).__name__ in ("GELU", "QuickGELU")]
    assert {type(part).__name__ for part in blocks} == {expected} and len(blocks) == 2
    assert model.settings["activation"] == expected and model.pretrained == "some_tag"


def test_both_spellings_of_openais_model_give_the_same_bits(register, pictures):
    from clipnb import encode_images, load_dataset

    register("tiny-b", {"openai": {"quick_gelu": True}, "laion": {}})
    register("tiny-b-quickgelu", {"openai": {"quick_gelu": True}}, quick_gelu=True)
    plain, named, other = (
        load_model(*source) for source in (("tiny-b", "openai"), ("tiny-b-quickgelu", "openai"), ("tiny-b", "laion"))
    )
    data = load_dataset(f"folder:{pictures}")
    assert np.array_equal(encode_texts(plain, TEXTS), encode_texts(named, TEXTS))
    assert np.array_equal(encode_images(plain, data).vectors, encode_images(named, data).vectors)
    assert (plain.fingerprint, plain.text_fingerprint) == (named.fingerprint, named.text_fingerprint)
    assert other.fingerprint != plain.fingerprint and other.text_fingerprint != plain.text_fingerprint
    assert not np.array_equal(encode_texts(other, TEXTS), encode_texts(plain, TEXTS))


def test_a_tag_may_be_spelled_as_open_clip_allows(register):
    register("tiny-b", {"openai": {"quick_gelu": True}, "laion2b_e16": {}})
    assert (
        load_model("tiny-b", "OpenAI").pretrained == "openai"
        and load_model("tiny-b", "laion2b-e16").pretrained == "laion2b_e16"
    )


def test_a_tag_of_the_sibling_is_named(register):
    register("tiny-b", {"openai": {"quick_gelu": True}, "laion": {}})
    register("tiny-b-quickgelu", {"openai": {"quick_gelu": True}}, quick_gelu=True)
    assert refuses("Unknown weights 'laion' for model 'tiny-b-quickgelu': ", "tiny-b-quickgelu", "laion").endswith(
        "not one of openai; it is a tag of tiny-b"
    )


def test_a_file_gets_the_settings_that_all_tags_agree_on(register, tiny_weights):
    register("tiny-agreed", {"one": INCEPTION | {"quick_gelu": True}, "two": INCEPTION | {"quick_gelu": True}})
    model = load_model("tiny-agreed", tiny_weights)
    assert model.settings == {
        "activation": "QuickGELU",
        "image_size": [32, 32],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bilinear",
        "resize_mode": "squash",
        "context_length": 77,
    }
    assert model.fingerprint == load_model("tiny-agreed", "two").fingerprint
    assert load_model("tiny-agreed", str(tiny_weights), like="one").fingerprint == model.fingerprint


def test_a_file_of_an_architecture_without_tags_has_the_defaults(tiny):
    assert (
        tiny.settings["activation"] == "GELU"
        and {key: tuple(tiny.settings[key]) if key in ("mean", "std") else tiny.settings[key] for key in OPENAI}
        == OPENAI
    )


def test_where_tags_disagree_a_file_needs_like(register, tiny_weights):
    register(
        "tiny-split",
        {
            "openai": OPENAI | {"quick_gelu": True},
            "laion": OPENAI,
            "metaclip": OPENAI | {"quick_gelu": True},
            "half": OPENAI | {"mean": (0.5, 0.5, 0.5)},
            "dfn": OPENAI | {"quick_gelu": True, "resize_mode": "squash"},
        },
    )
    text = refuses(
        "Expected `like` (--like TAG) for weights of tiny-split from a file, got none: ",
        "tiny-split",
        str(tiny_weights),
    )
    assert text.endswith(
        "QuickGELU and mean 0.481, 0.458, 0.408 and resize mode shortest: openai, metaclip; "
        "GELU and mean 0.481, 0.458, 0.408 and resize mode shortest: laion; GELU and mean 0.5, "
        "0.5, 0.5 and resize mode shortest: half; "
        "QuickGELU and mean 0.481, 0.458, 0.408 and resize mode squash: dfn"
    )
    for like, activation, mode in (
        ("openai", "QuickGELU", "shortest"),
        ("laion", "GELU", "shortest"),
        ("dfn", "QuickGELU", "squash"),
        ("OpenAI", "QuickGELU", "shortest"),
    ):
        model = load_model("tiny-split", str(tiny_weights), like=like)
        assert (model.settings["activation"], model.settings["resize_mode"], model.pretrained) == (
            activation,
            mode,
            str(tiny_weights),
        )
    refuses(
        "Expected `like` (--like) to be a tag of tiny-split: openai, laion, metaclip, half, dfn; got 'opnai'",
        "tiny-split",
        str(tiny_weights),
        like="opnai",
    )


def test_of_a_real_architecture_the_choices_are_grouped(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    text = refuses(
        "Expected `like` (--like TAG) for weights of ViT-B-32 from a file", "ViT-B-32", str(tmp_path / "w.safetensors")
    )
    assert "QuickGELU: openai, laion400m_e31, " in text and "; GELU: laion2b_e16, " in text and "mean" not in text
    refuses(
        "Cannot load model 'ViT-B-32-quickgelu' with weights ", "ViT-B-32-quickgelu", str(tmp_path / "w.safetensors")
    )  # its tags agree: on to the file


def test_an_architectures_own_settings_are_used_with_a_warning_where_tags_disagree(register, tiny_weights, folder):
    register("tiny-split", {"openai": OPENAI | {"quick_gelu": True}, "laion": OPENAI})
    with pytest.warns(
        UserWarning, match="those of tiny-split's tags differ: .*the settings of the architecture itself are used"
    ):
        model = load_model("tiny-split", str(tiny_weights), like="architecture")
    assert model.settings["activation"] == "GELU"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(like="architecture").name == "clipnb-mini"
        assert load_model(f"local-dir:{folder}", like="architecture")
        assert load_model("tiny-clip", str(tiny_weights), like="architecture")


def test_like_is_refused_where_nothing_is_to_be_chosen(register, tiny_weights, folder):
    register("tiny-b", {"openai": {"quick_gelu": True}})
    refuses(
        "Expected no `like` with the tag 'openai', whose settings are known, got 'openai'",
        "tiny-b",
        "openai",
        like="openai",
    )
    refuses("Expected no `like` with model 'clipnb-mini' (its weights are shipped), got 'openai'", like="openai")
    refuses("Expected no `like` with model 'local-dir:", f"local-dir:{folder}", like="openai")
    refuses("Expected no `like` with model 'hf-hub:", "hf-hub:a/b", like="openai")
    refuses(
        "Expected `like` (--like) to be a tag of tiny-clip: it has no tags; got 'openai'",
        "tiny-clip",
        str(tiny_weights),
        like="openai",
    )
    refuses("Expected `like` to be a non-empty string, got 5", "tiny-clip", str(tiny_weights), like=5)


# What determines a vector is in the fingerprints ----------------------------------------------------------------------


def configured(folder, preprocess=None, vision=None, text=None, **model):
    """The model of a folder with some settings changed in its configuration."""
    config = {
        "model_cfg": TINY
        | model
        | {"vision_cfg": TINY["vision_cfg"] | (vision or {}), "text_cfg": TINY["text_cfg"] | (text or {})},
        "preprocess_cfg": preprocess or {},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return load_model(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("change", "image", "text"),
    [
        ({"quick_gelu": True}, True, True),
        ({"vision": {"head_width": 32}}, True, False),
        ({"vision": {"act_kwargs": {"approximate": "tanh"}}}, True, False),
        ({"vision": {"norm_kwargs": {"eps": 1e-3}}}, True, False),
        ({"vision": {"pool_type": "avg"}}, True, False),
        ({"text": {"heads": 1}}, True, True),
        ({"text": {"pool_type": "last"}}, True, True),
        ({"text": {"no_causal_mask": True}}, True, True),
        ({"text": {"act_kwargs": {"approximate": "tanh"}}}, True, True),
        ({"text": {"tokenizer_kwargs": {"clean": "whitespace"}}}, True, True),
        ({"text": {"tokenizer_kwargs": {"clean": "canonicalize"}}}, True, True),
        ({"preprocess": {"mean": [0.5, 0.5, 0.5]}}, True, False),
        ({"preprocess": {"interpolation": "bilinear"}}, True, False),
        ({"preprocess": {"resize_mode": "squash"}}, True, False),
        ({"preprocess": {"resize_mode": "longest"}}, True, False),
    ],
)
def test_a_setting_that_changes_vectors_changes_the_fingerprint(folder, change, image, text):
    plain, changed = configured(folder), configured(folder, **change)
    assert (changed.fingerprint != plain.fingerprint) >= image
    assert (changed.text_fingerprint != plain.text_fingerprint) is text


def test_the_colour_of_a_border_is_a_setting(folder):
    white, black = (configured(folder, {"resize_mode": "longest", "fill_color": colour}) for colour in (255, 0))
    assert white.fingerprint != black.fingerprint


def test_a_setting_spelled_out_is_the_default(folder):
    plain = configured(folder)
    spelled = configured(
        folder,
        {"resize_mode": "shortest", "interpolation": "bicubic"},
        {"mlp_ratio": 4.0},
        {"pool_type": "argmax"},
        quick_gelu=False,
    )
    assert (plain.fingerprint, plain.text_fingerprint) == (spelled.fingerprint, spelled.text_fingerprint)


def test_an_activation_or_mask_changed_in_a_module_changes_the_fingerprint(tiny):
    from open_clip.transformer import QuickGELU

    module = copy.deepcopy(tiny.module)
    module.transformer.resblocks[0].mlp.gelu = QuickGELU()
    assert dataclasses.replace(tiny, module=module).text_fingerprint != tiny.text_fingerprint
    module = copy.deepcopy(tiny.module)
    module.attn_mask.zero_()
    assert dataclasses.replace(tiny, module=module).text_fingerprint != tiny.text_fingerprint


def test_two_words_exchanged_in_a_tokenizer_change_the_text_fingerprint(model, tiny, tmp_path):
    from clipnb.models import EMBEDDED_DIR

    swapped = copy.copy(tiny.tokenizer)
    ids = swapped.encoder
    swapped.encoder = ids | {"zebra</w>": ids["violin</w>"], "violin</w>": ids["zebra</w>"]}
    assert dataclasses.replace(tiny, tokenizer=swapped).text_fingerprint != tiny.text_fingerprint
    other = shutil.copytree(EMBEDDED_DIR, tmp_path / "mini")
    content = json.loads((other / "tokenizer.json").read_text("utf-8"))
    words = content["model"]["vocab"]
    one, two = [word for word in words if word.isalpha() and len(word) > 5][:2]
    words[one], words[two] = words[two], words[one]
    (other / "tokenizer.json").write_text(json.dumps(content))
    changed = load_model(f"local-dir:{other}", device=str(model.device))
    assert changed.text_fingerprint != model.text_fingerprint and changed.fingerprint == model.fingerprint


def test_fingerprints_do_not_depend_on_what_was_encoded_before(model):
    first = model.text_fingerprint
    encode_texts(model, ["a long prompt " * 100, "dog"])
    assert dataclasses.replace(model).text_fingerprint == first


def test_the_heads_of_a_text_tower_of_transformers_are_a_setting(model, tmp_path):
    from clipnb.models import EMBEDDED_DIR

    other = shutil.copytree(EMBEDDED_DIR, tmp_path / "mini")
    config = json.loads((other / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"num_attention_heads": config["num_attention_heads"] // 2}))
    assert load_model(f"local-dir:{other}", device=str(model.device)).text_fingerprint != model.text_fingerprint


# Files that cannot be used --------------------------------------------------------------------------------------------

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 605143316\n"


def zipped(names):
    import io

    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("w.safetensors", b"", "it is empty: the download or the copy was not finished"),
        ("w.pt", b"", "it is empty"),
        (
            "w.safetensors",
            LFS_POINTER,
            f"it is a Git LFS pointer of {len(LFS_POINTER)} bytes, which is a placeholder for the file: "
            "run `git lfs pull`",
        ),
        ("w.bin", LFS_POINTER, "it is a Git LFS pointer"),
        ("w.pt", b"<!DOCTYPE html>\n<html><body>404", "it is a web page (HTML)"),
        ("w.safetensors", b"\xef\xbb\xbf\n <HTML lang='en'>", "it is a web page (HTML)"),
        ("w.pt", b'{"error": "Entry not found"}', 'it is text, not weights; it begins with \'{"error"'),
        ("w.bin", "Gewichte für später\n".encode(), "it is text, not weights; it begins with 'Gewichte für später\\n'"),
        (
            "w.pt",
            zipped(["readme.txt", "a/b.txt"]),
            "it is a zip archive, but not a checkpoint of PyTorch; it holds 'readme.txt', 'a/b.txt': unpack it",
        ),
        ("w.pt", zipped(["w/data.pkl"])[:40], "it is a PyTorch checkpoint or another zip archive that is cut off"),
        (
            "w.safetensors",
            zipped(["w/data.pkl"]),
            "it is a checkpoint of PyTorch under the suffix .safetensors: rename it to .pt",
        ),
        ("w.safetensors", struct.pack("<Q", 500) + b'{"x": {"dtype"', "its safetensors header is cut off or damaged"),
        ("w.safetensors", b"\x00\x01\x02\x03" * 50, "it is not a safetensors file, or a damaged one"),
        ("w.bin", b"\x1f\x8b\x08\x00" + bytes(50), "it is a gzip archive: unpack it first"),
        ("w.pt", b"\x89HDF\r\n\x1a\n" + bytes(50), "it is an HDF5 file"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,  # a zip archive holds the time it was made
)
def test_a_file_that_is_no_checkpoint_is_named_for_what_it_is(tiny_weights, tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    refuses(
        f"Cannot load model 'tiny-clip' with weights '{tmp_path / name}': {text}", "tiny-clip", str(tmp_path / name)
    )
    refuses(
        f"Cannot load model 'ViT-B-32' with weights '{tmp_path / name}': {text}", "ViT-B-32", str(tmp_path / name)
    )  # before --like is asked for


def test_weights_that_are_cut_off_are_refused_with_their_lengths(tiny, tiny_weights, tmp_path):
    whole = tiny_weights.read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:-1000])
    refuses(
        f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'w.safetensors'}': it is cut off "
        f"after {len(whole) - 1000:,} of {len(whole):,} bytes",
        "tiny-clip",
        str(tmp_path / "w.safetensors"),
    )
    (tmp_path / "w.bin").write_bytes(whole)
    refuses(
        f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'w.bin'}': it is a safetensors "
        "file under another suffix: rename it",
        "tiny-clip",
        str(tmp_path / "w.bin"),
    )
    torch.save(tiny.module.state_dict(), tmp_path / "w.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:-5000])
    refuses(
        f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'cut.pt'}': it is a PyTorch "
        "checkpoint or another zip archive that is cut off",
        "tiny-clip",
        str(tmp_path / "cut.pt"),
    )


def test_a_folder_in_place_of_a_file_is_refused(tiny_weights, tmp_path):
    refuses(
        f"Expected `pretrained` to be a tag or a checkpoint file, got the folder '{tmp_path}'",
        "tiny-clip",
        str(tmp_path),
    )


def test_weights_in_another_layout_are_refused_by_their_keys(tiny, tmp_path):
    from safetensors.torch import save_file

    weights = tiny.module.state_dict()
    renamed = {key.replace("visual.", "image_encoder."): value for key, value in weights.items()}
    hugging_face = {f"text_model.encoder.{i}": torch.zeros(2) for i in range(3)} | {"logit_scale": torch.ones([])}
    for name, content, text in (
        (
            "renamed",
            renamed,
            "first missing key 'visual.class_embedding' (of 20), first unexpected key "
            "'image_encoder.class_embedding' (of 20)",
        ),
        (
            "more",
            weights | {"head.bias": torch.zeros(3)},
            "first missing key none, first unexpected key 'head.bias' (of 1)",
        ),
        (
            "fewer",
            {key: value for key, value in weights.items() if key != "ln_final.bias"},
            "first missing key 'ln_final.bias' (of 1), first unexpected key none",
        ),
        (
            "transformers",
            hugging_face,
            "first unexpected key 'text_model.encoder.0' (of 3) (names as in Hugging Face transformers)",
        ),
    ):
        for file in (tmp_path / f"{name}.safetensors", tmp_path / f"{name}.pt"):
            if file.suffix == ".safetensors":
                save_file({key: value.contiguous() for key, value in content.items()}, file)
            else:
                torch.save(content, file)
            assert text in refuses(
                f"Cannot load model 'tiny-clip' with weights '{file}': the names of its tensors "
                "are not those of tiny-clip: ",
                "tiny-clip",
                str(file),
            )
    weights["visual.conv1.weight"] = torch.zeros(32, 3, 8, 8)
    torch.save(weights, tmp_path / "shape.pt")
    refuses(
        f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'shape.pt'}': it belongs to "
        "another architecture: visual.conv1.weight has shape "
        "[32, 3, 8, 8] in the file and [32, 3, 16, 16] in tiny-clip",
        "tiny-clip",
        str(tmp_path / "shape.pt"),
    )


@pytest.mark.parametrize(
    ("key", "rows", "what"),
    [("visual.positional_embedding", 17, "image size"), ("positional_embedding", 32, "context length")],
)
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_of_another_image_size_or_context_are_not_interpolated(tiny, tmp_path, key, rows, what, suffix):
    from safetensors.torch import save_file

    weights = {name: value.contiguous() for name, value in tiny.module.state_dict().items()} | {
        key: torch.zeros(rows, 32)
    }
    file = tmp_path / f"w.{suffix}"
    save_file(weights, file) if suffix == "safetensors" else torch.save({"state_dict": weights}, file)
    refuses(
        f"Cannot load model 'tiny-clip' with weights '{file}': they are of another {what} than "
        f"tiny-clip: {key} has shape [{rows}, 32] in the file",
        "tiny-clip",
        str(file),
    )


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(2)], torch.zeros(3), {}, {"state_dict": {}}, {"epoch": 3}, {3: torch.zeros(2)}, "weights", None],
)
def test_a_checkpoint_that_is_no_state_dict_is_refused(tiny_weights, tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    refuses(f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'w.pt'}': ", "tiny-clip", str(tmp_path / "w.pt"))


def test_weights_in_another_layout_in_a_folder_are_refused_by_their_keys(tiny, folder):
    from safetensors.torch import save_file

    save_file(
        {
            key.removeprefix("visual."): value.contiguous()
            for key, value in tiny.module.state_dict().items()
            if key.startswith("visual.")
        },
        folder / "open_clip_model.safetensors",
    )
    assert "first unexpected key 'class_embedding'" in refuses(
        f"Cannot load the model in {folder}: the names of its tensors are not those of ", f"local-dir:{folder}"
    )


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_a_git_lfs_pointer_in_a_folder_is_named(folder, name):
    (folder / name).write_bytes(LFS_POINTER)
    refuses(
        f"Cannot load the model in {folder}: {name}: it is a Git LFS pointer of {len(LFS_POINTER)} bytes",
        f"local-dir:{folder}",
    )


def test_a_git_lfs_pointer_in_place_of_a_tokenizer_is_named(tmp_path):
    from clipnb.models import EMBEDDED_DIR

    other = shutil.copytree(EMBEDDED_DIR, tmp_path / "mini")
    (other / "tokenizer.json").write_bytes(LFS_POINTER)
    refuses(f"Cannot load the model in {other}: tokenizer.json: it is a Git LFS pointer", f"local-dir:{other}")


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::torch.jit.TracerWarning")
def test_a_torchscript_archive_is_loaded_when_it_is_trusted(tiny, register, tmp_path):
    module = copy.deepcopy(tiny.module)
    module.attn_mask = module._buffers.pop(
        "attn_mask"
    )  # as in OpenAI's archives: the mask is no buffer, but three numbers are
    for name in ("input_resolution", "context_length", "vocab_size"):
        module.__dict__.pop(name, None)
        module.register_buffer(name, torch.tensor(77))
    traced = torch.jit.trace_module(
        module, {"encode_text": torch.zeros(2, 77, dtype=torch.long), "encode_image": torch.ones(2, 3, 32, 32)}
    )
    traced.save(str(tmp_path / "archive.pt"))
    text = refuses(
        f"Cannot load model 'tiny-clip' with weights '{tmp_path / 'archive.pt'}': it is a TorchScript archive",
        "tiny-clip",
        str(tmp_path / "archive.pt"),
    )
    assert text.endswith("if you trust its source: trust_pickle=True (--trust-pickle)")
    loaded = load_model("tiny-clip", str(tmp_path / "archive.pt"), trust_pickle=True)
    assert loaded.fingerprint == tiny.fingerprint and np.array_equal(
        encode_texts(loaded, TEXTS), encode_texts(tiny, TEXTS)
    )
    register("tiny-b", {"openai": {"quick_gelu": True}, "laion": {}})
    assert refuses("Cannot load model 'tiny-b'", "tiny-b", str(tmp_path / "archive.pt")).endswith(
        "like='openai' (--like openai)"
    )
    assert (
        load_model("tiny-b", str(tmp_path / "archive.pt"), trust_pickle=True, like="openai").fingerprint
        == load_model("tiny-b", "openai").fingerprint
    )


# The Hugging Face hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def hub_cache(folder, tmp_path, monkeypatch):
    """A cache of the hub that holds the tiny model as organisation/tiny, and no network."""
    from huggingface_hub import constants

    snapshot = tmp_path / "hub" / "models--organisation--tiny" / "snapshots" / "0000"
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0000")
    for name, value in (("HF_HUB_CACHE", str(tmp_path / "hub")), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(constants, name, value)
    return snapshot


def test_a_name_of_the_hub_is_loaded_from_its_cache(hub_cache, tiny):
    model = load_model("hf-hub:organisation/tiny")
    assert (model.name, model.pretrained, model.fingerprint) == ("hf-hub:organisation/tiny", "tiny", tiny.fingerprint)
    assert np.array_equal(encode_texts(model, TEXTS), encode_texts(tiny, TEXTS))
    config = {"model_cfg": TINY | {"quick_gelu": True}, "preprocess_cfg": {"mean": [0.5] * 3}}
    (hub_cache / "open_clip_config.json").write_text(json.dumps(config))
    assert load_model("hf-hub:organisation/tiny").settings["activation"] == "QuickGELU"


def test_without_the_hub_the_way_out_is_a_folder(hub_cache):
    text = refuses(
        "Cannot load 'hf-hub:organisation/other' from the Hugging Face hub or its cache: ", "hf-hub:organisation/other"
    )
    assert text.endswith(
        "fetch the folder with `hf download organisation/other --local-dir FOLDER`, then use "
        "local-dir:FOLDER (--model local-dir:FOLDER)"
    )
    (hub_cache / "open_clip_model.safetensors").unlink()  # without weights it is no random model
    refuses(
        "Cannot load 'hf-hub:organisation/tiny' from the Hugging Face hub or its cache: ", "hf-hub:organisation/tiny"
    )
    for name in ("hf-hub:", "hf-hub:tiny", "hf-hub:organisation/", "hf-hub:a/b/c"):
        refuses(f"Expected hf-hub:ORGANISATION/NAME, got '{name}'", name)
    assert refuses("Unknown model 'organisation/tiny'", "organisation/tiny").endswith(
        "a repository of the Hugging Face hub is hf-hub:organisation/tiny"
    )
    refuses("Expected no `pretrained` with model 'hf-hub:organisation/tiny'", "hf-hub:organisation/tiny", "openai")


def test_without_the_hub_a_tag_says_how_to_use_a_file(hub_cache):
    text = refuses("Cannot load model 'ViT-B-32' with weights 'openai': ", "ViT-B-32", "openai")
    assert text.endswith(
        "download the file elsewhere and give it: pretrained=FILE, like='openai' (--pretrained FILE --like openai)"
    )
