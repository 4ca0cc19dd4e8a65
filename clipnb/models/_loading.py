"""Load a CLIP model through open_clip with the settings its weights were trained with."""

from __future__ import annotations

import difflib
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import torch

from clipnb import _runtime
from clipnb._checks import format_value, one_of, text_of
from clipnb._device import find_device
from clipnb._files import path_of
from clipnb._format import first_line
from clipnb.datasets import check_asset
from clipnb.errors import InputError
from clipnb.models._embedded import FACTS, EmbeddedModel
from clipnb.models._files import folder_problem, is_torchscript, layout_problem, stored_shapes, weights_problem
from clipnb.models._model import DTYPES, Model, Precision
from clipnb.models._preprocess import Preprocess
from clipnb.models._sentence_transformers import PREFIX as SENTENCE_TRANSFORMERS
from clipnb.models._sentence_transformers import open_sentence_transformers
from clipnb.models._settings import ARCHITECTURE, find_tag, known_tags, settings_of_file, settings_of_tag
from clipnb.models._transformers import PREFIX as TRANSFORMERS
from clipnb.models._transformers import open_transformers
from clipnb.models._wrapped import WrappedModel

EMBEDDED = "clipnb-mini"
EMBEDDED_DIR = Path(__file__).parents[1] / "assets" / EMBEDDED
SHIPPED = "shipped"  # what `Model.pretrained` says of it
FOLDER = "local-dir:"  # open_clip's own prefix, as the next one
HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
EMBEDDED_FILES = (
    "open_clip_model.safetensors",
    CONFIG,
    FACTS,
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def load_model(
    name: str = EMBEDDED,
    pretrained: str | Path | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    trust_pickle: bool = False,
    like: str | None = None,
) -> Model | WrappedModel:
    """Load a CLIP model for inference.

    The model is built with the settings that its weights were trained with: for a tag they are open_clip's record of
    it (activation, mean and standard deviation, interpolation, resize mode), so that "ViT-B-32" and
    "ViT-B-32-quickgelu" with the tag "openai" are the same model. `Model.settings` shows them.

    Args:
        name: "clipnb-mini" (the embedded default, no network needed), a name open_clip knows ("ViT-B-32"),
            "local-dir:PATH" (a folder with open_clip_config.json), "hf-hub:ORGANISATION/NAME" (such a folder on the
            Hugging Face hub), "transformers:NAME_OR_PATH" (CLIP, SigLIP, SigLIP 2, AltCLIP, ChineseCLIP or ALIGN as
            transformers keeps them, with their own processor), or "sentence-transformers:NAME_OR_PATH" (if that library
            is installed). Anything else: `wrap_model`.
        pretrained: a tag open_clip knows for that name ("openai"; downloaded on first use), or a path to a
            checkpoint (.safetensors, or a .pt/.bin that holds tensors only). Used with open_clip's names only.
        device: "auto" (CUDA if there is one, else CPU), "cpu", "cuda", "cuda:1", "mps".
        precision: "fp32", "bf16" or "fp16": the type the image tower's weights are cast to (the text tower's stay in
            fp32). `encode_images` measures on a sample how many predictions a half precision changes.
        trust_pickle: load a checkpoint that can run code: a pickle with more in it than tensors, or a TorchScript
            archive. Only for files whose source you trust.
        like: the tag whose settings a checkpoint file needs, or "architecture" for the architecture's own settings
            wherever weights do not bring theirs. None: those that all tags of the architecture agree on.

    Returns:
        A `Model` in evaluation mode.

    Raises:
        InputError: the name, tag, file, device or precision is unknown or cannot be loaded, or the tags of the
            architecture disagree on the settings of a file; the text says what is wrong and what to do.

    >>> model = load_model()
    >>> model.name, model.precision
    ('clipnb-mini', 'fp32')
    """
    if not isinstance(name, str):
        text_of(name, "name")  # raises
    if not isinstance(trust_pickle, bool):  # "no" would count as yes
        raise InputError(f"Expected `trust_pickle` to be True or False, got {trust_pickle!r}")
    like = None if like is None or like == "" else text_of(like, "like")
    found_device = find_device(device)
    one_of(precision, "precision", tuple(DTYPES))
    options = {"pretrained": pretrained, "device": device, "trust_pickle": trust_pickle, "like": like}
    exact = cast("Callable[[], Model]", partial(load_model, name, **options)) if precision != "fp32" else None
    if name.startswith((TRANSFORMERS, SENTENCE_TRANSFORMERS)):
        _refuse_options(name, pretrained, like, "its weights and settings are kept together")
        with _runtime.quiet_loading():
            if name.startswith(TRANSFORMERS):
                return open_transformers(name, found_device, precision, exact)
            return open_sentence_transformers(name, found_device, precision)
    if name == EMBEDDED:
        _check_embedded(pretrained, like)

    def opened() -> Model:
        with _runtime.quiet_loading():
            module, tokenizer, architecture, label = _open(name, pretrained, trust_pickle, like)
        module = module.eval().requires_grad_(False).to(device=found_device, dtype=torch.float32)
        module.visual.to(DTYPES[precision], memory_format=torch.channels_last)
        return Model(
            name=name,
            pretrained=label,
            module=module,
            preprocess=_preprocess(module),
            tokenizer=tokenizer,
            device=found_device,
            precision=precision,
            config=_config(module, architecture),
            exact=exact,
        )

    if name == EMBEDDED and found_device.type == "cpu" and precision == "fp32":
        return EmbeddedModel.closed(EMBEDDED_DIR, opened, name=name, pretrained=SHIPPED)
    return opened()


# A model's parts: (module, tokenizer, the architecture as open_clip's JSON has it, what `Model.pretrained` says). The
# module is `Any` because PyTorch types its parts as "Tensor or Module".
Parts = tuple[Any, Any, dict[str, Any], str]


def _open(name: str, pretrained: str | Path | None, trust_pickle: bool, like: str | None) -> Parts:
    if name == EMBEDDED:
        return *_from_folder(EMBEDDED_DIR, trust_pickle), SHIPPED
    if name.startswith(FOLDER):
        _refuse_options(name, pretrained, like, "its weights and settings are in the folder")
        folder = Path(name.removeprefix(FOLDER))
        if not (folder / CONFIG).is_file():
            raise InputError(f"Expected a folder with {CONFIG}, got {folder}")
        return *_from_folder(folder, trust_pickle), folder.name
    if name.startswith(HUB):
        _refuse_options(name, pretrained, like, "its weights and settings are in the repository")
        return *_from_hub(name), name.rpartition("/")[2]
    return _from_architecture(name, pretrained, trust_pickle, like)


def _check_embedded(pretrained: str | Path | None, like: str | None) -> None:
    _refuse_options(
        EMBEDDED,
        pretrained if pretrained != EMBEDDED else None,
        like,
        "its weights are shipped",
        "; name the architecture, for example ViT-B-32",
    )
    for file in EMBEDDED_FILES:
        check_asset(EMBEDDED_DIR / file)


def _refuse_options(name: str, pretrained: str | Path | None, like: str | None, why: str, way: str = "") -> None:
    for option, value in (("pretrained", pretrained), ("like", None if like == ARCHITECTURE else like)):
        if value:
            raise InputError(f"Expected no `{option}` with model {name!r} ({why}), got {format_value(value)}{way}")


def _from_architecture(name: str, pretrained: str | Path | None, trust_pickle: bool, like: str | None) -> Parts:
    import open_clip  # heavy: only loading needs it

    known = open_clip.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, [EMBEDDED, *known], n=5, cutoff=0.4)
        repository = f"; a repository of the Hugging Face hub is {HUB}{name}" if name.count("/") == 1 else ""
        raise InputError(
            f"Unknown model {format_value(name)}; close: {', '.join(close) or EMBEDDED}; "
            f"all: {EMBEDDED}, local-dir:PATH, hf-hub:ORGANISATION/NAME, transformers:NAME_OR_PATH, "
            f"sentence-transformers:NAME_OR_PATH, or open_clip.list_models(){repository}"
        )
    tag = _tag_of(name, pretrained)
    if tag and like not in (None, ARCHITECTURE):
        raise InputError(
            f"Expected no `like` with the tag {tag!r}, whose settings are known, got {format_value(like)}; "
            "it is for weights from a file"
        )
    problem = f"Cannot load model {name!r} with weights {str(pretrained)!r}: "
    if not tag:
        _check_file(Path(str(pretrained)), name, trust_pickle, like, problem)
    settings = settings_of_tag(name, tag) if tag else settings_of_file(name, like)
    try:
        module = open_clip.create_model(
            name,
            tag or str(pretrained),
            force_quick_gelu=settings.quick_gelu,
            quick_gelu=settings.quick_gelu,
            force_preprocess_cfg=settings.preprocessing,
            weights_only=not trust_pickle,
        )
    except Exception as error:  # the hub, the file and torch each raise their own kinds
        way = (
            "; without a network, download the file elsewhere and give it: "
            f"pretrained=FILE, like={tag!r} (--pretrained FILE --like {tag})"
            if tag
            else ""
        )
        _refuse(error, problem, name, way)
    if not tag:
        _check_positions(Path(str(pretrained)), module, name, problem)
    architecture = (open_clip.get_model_config(name) or {}) | {"quick_gelu": settings.quick_gelu}
    return module, _tokenizer(name), architecture, tag or str(pretrained)


def _tag_of(name: str, pretrained: str | Path | None) -> str | None:
    """The tag that `pretrained` names; None if it is a file.

    Raises:
        InputError: it is neither, or nothing is given.
    """
    tags = ", ".join(known_tags(name)) or "(no tags)"
    if not pretrained:
        raise InputError(f"Expected `pretrained` for model {name!r}: one of {tags}, or a checkpoint file")
    if isinstance(pretrained, str) and (tag := find_tag(name, pretrained)):
        return tag
    if path_of(pretrained, "pretrained").is_file():
        return None
    if Path(pretrained).is_dir():
        raise InputError(
            f"Expected `pretrained` to be a tag or a checkpoint file, got the folder {str(pretrained)!r}; "
            f"name the file in it, or, if {CONFIG} is beside it, --model local-dir:{pretrained}"
        )
    sibling = name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
    other = f"; it is a tag of {sibling}" if find_tag(sibling, str(pretrained)) else ""
    raise InputError(
        f"Unknown weights {str(pretrained)!r} for model {name!r}: not a file, and not one of {tags}{other}"
    )


def _check_file(file: Path, name: str, trust_pickle: bool, like: str | None, problem: str) -> None:
    """Refuse a file that is visibly unusable before anything is built."""
    if what := weights_problem(file):
        raise InputError(problem + what)
    if is_torchscript(file) and not trust_pickle:
        also = (
            ", and for OpenAI's own file like='openai' (--like openai)"
            if "openai" in known_tags(name) and not like
            else ""
        )
        raise InputError(
            f"{problem}it is a TorchScript archive, as OpenAI publishes its weights, which can run code; "
            f"if you trust its source: trust_pickle=True (--trust-pickle){also}"
        )


def _check_positions(file: Path, module: torch.nn.Module, name: str, problem: str) -> None:
    """Refuse weights of another image size or context length, which open_clip would interpolate in silence."""
    shapes = stored_shapes(file)
    for key, tensor in module.named_parameters():
        if key.endswith("positional_embedding") and (shape := shapes.get(key, list(tensor.shape))) != list(
            tensor.shape
        ):
            what = "image size" if key.startswith("visual.") else "context length"
            raise InputError(
                f"{problem}they are of another {what} than {name}: "
                f"{key} has shape {shape} in the file and {list(tensor.shape)} in the "
                f"model; name the architecture of that {what}"
            )


def _from_folder(folder: Path, trust_pickle: bool) -> tuple[Any, Any, dict[str, Any]]:
    import open_clip

    problem = f"Cannot load the model in {folder}: "
    options: dict[str, Any] = {}
    try:
        architecture = json.loads((folder / CONFIG).read_text("utf-8"))["model_cfg"]
        text = architecture["text_cfg"]
        if "hf_model_name" in text:  # relative in the file; transformers wants the real folder
            options["text_cfg"] = text | {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
        # Without `require_pretrained`, a folder without weights would give a random model.
        module = open_clip.create_model(
            f"{FOLDER}{folder}", require_pretrained=True, weights_only=not trust_pickle, **options
        )
        return module, open_clip.get_tokenizer(f"{FOLDER}{folder}"), architecture
    except Exception as error:
        if what := folder_problem(folder):
            raise InputError(problem + what) from error
        _refuse(error, problem, f"{FOLDER}{folder}")


def _from_hub(name: str) -> tuple[Any, Any, dict[str, Any]]:
    import open_clip

    repository = name.removeprefix(HUB)
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError(f"Expected hf-hub:ORGANISATION/NAME, got {format_value(name)}")
    try:
        module = open_clip.create_model(name, require_pretrained=True)
        return module, open_clip.get_tokenizer(name), open_clip.get_model_config(name) or {}
    except Exception as error:
        _refuse(
            error,
            f"Cannot load {name!r} from the Hugging Face hub or its cache: ",
            name,
            f"; where there is a network, fetch the folder with `hf download {repository} --local-dir FOLDER`, "
            "then use local-dir:FOLDER (--model local-dir:FOLDER)",
        )


def _tokenizer(name: str) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(name)
    except Exception as error:
        raise InputError(
            f"Cannot load the tokenizer of model {name!r}, which comes from the Hugging Face hub on first use: "
            f"{_reason(error)}; without a network, use a folder that holds it: local-dir:PATH"
        ) from error


def _refuse(error: Exception, problem: str, name: str, way: str = "") -> NoReturn:
    """Raise InputError with one line on why weights cannot be loaded."""
    if isinstance(error, pickle.UnpicklingError):
        raise InputError(
            f"{problem}expected a file of tensors only, this is damaged or a pickle that can run any code; "
            "if it is your own: trust_pickle=True, --trust-pickle"
        ) from None
    if what := layout_problem(str(error), name):
        raise InputError(problem + what) from None
    # open_clip raises these where it reads the content as tensors by name.
    if isinstance(error, (AttributeError, StopIteration, KeyError)):
        raise InputError(
            f"{problem}expected tensors by name (a state dict), got something else "
            f"({type(error).__name__}: {_reason(error)})"
        ) from error
    raise InputError(f"{problem}{type(error).__name__}: {_reason(error)}{way}") from error


def _preprocess(module: Any) -> Preprocess:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    composed: Any = image_transform_v2(PreprocessCfg(**module.visual.preprocess_cfg), is_train=False)
    return Preprocess(composed.transforms)


def _config(module: Any, architecture: dict[str, Any]) -> dict[str, Any]:
    """Everything that determines vectors besides the weights, with open_clip's defaults filled in, ready for JSON.

    Two spellings of one model, such as a registered name and a folder, have equal configurations.
    """
    from open_clip import CLIPTextCfg, CLIPVisionCfg

    apart = (
        "vision_cfg",
        "text_cfg",
        "custom_text",
        "multimodal_cfg",
        "init_logit_scale",
        "init_logit_bias",
        "nonscalar_logit_scale",
    )
    config = {
        "architecture": {"quick_gelu": False} | {key: value for key, value in architecture.items() if key not in apart},
        "vision": asdict(CLIPVisionCfg(**architecture["vision_cfg"])),
        "text": asdict(CLIPTextCfg(**architecture["text_cfg"])),
        "preprocessing": dict(module.visual.preprocess_cfg),
    }
    tower = getattr(getattr(module, "text", None), "config", None)
    if tower is not None:  # a text tower of transformers has its heads and its activation in a file of its own
        ignored = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
        config["text"]["tower"] = {key: value for key, value in tower.to_diff_dict().items() if key not in ignored}
    return json.loads(json.dumps(config, default=str))


def _reason(error: Exception) -> str:
    """What an error says, in one line; of a failed download, the file and the first sentence of the reason."""
    line = first_line(error)
    if download := re.search(r"(Failed to download file .*?)\. Last error: (.*)", line):
        line = f"{download[1]}: {download[2].split('. ')[0]}"
    return line
