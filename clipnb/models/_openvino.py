"""`engine="openvino"`: the image tower compiled by OpenVINO, which is faster than PyTorch on many processors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from clipnb import _runtime
from clipnb._checks import format_value, one_of
from clipnb._device import find_device
from clipnb.errors import InputError
from clipnb.models._capabilities import Capabilities
from clipnb.models._model import DTYPES, Engine, Model, Precision, fingerprint_of
from clipnb.models._sentence_transformers import PREFIX as SENTENCE_TRANSFORMERS
from clipnb.models._towers import read_images, unit_norm
from clipnb.models._transformers import TransformersModel
from clipnb.similarity import number_of_cores

HINTS = {"fp32": "f32", "bf16": "bf16"}  # OpenVINO's names of the precisions it is used in here
# Largest accepted difference of a coordinate from PyTorch in fp32. A product in bf16 is off by more.
FP32_TOLERANCE = 1e-4
BF16_COSINE = 0.95  # smallest accepted cosine to PyTorch in fp32; a tower that is converted wrongly is far below
WAY_OUT = "leave the engine out (--engine torch)"


@dataclass(frozen=True, eq=False)
class OpenVINOModel(Model):
    """A `Model` whose images are encoded by OpenVINO; its texts are encoded by PyTorch.

    original: the model in fp32 that it is made from; both share the module.
    network: the compiled image tower.
    """

    original: Model = field(kw_only=True, repr=False)
    network: Network = field(kw_only=True, repr=False)
    engine: Engine = "openvino"

    @cached_property
    def capabilities(self) -> Capabilities:
        """Those of the towers in PyTorch."""
        return self.original.capabilities

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) of the fingerprint in fp32, the engine and the precision."""
        return fingerprint_of({}, [self.original.fingerprint, self.engine, self.precision])

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights in PyTorch; OpenVINO has cast its copy to the precision."""
        return torch.float32

    def encode_pixels(self, pixels: torch.Tensor) -> npt.NDArray[np.float32]:
        """Unit-norm image vectors (B, D) float32 of preprocessed images (B, 3, H, W)."""
        return unit_norm(self.network(pixels))

    def cast(self, precision: Precision) -> Model:
        """This model with its image tower in another precision; "fp16" is refused."""
        _check_precision(precision)
        return _compiled(self.original, self.network.graph, precision)


class OpenVINOTransformersModel(OpenVINOModel, TransformersModel):
    """The same for a model of transformers, whose tokenizer tells what is padding."""


class Network:
    """An image tower compiled for the CPU with one stream a core. Several threads may call it at once."""

    def __init__(self, graph: Any, precision: Precision) -> None:
        cores = number_of_cores()
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
            "ENABLE_CPU_PINNING": False,  # two processes would share the same cores and leave others idle
        }
        self.graph = graph
        self._compiled = _runtime.import_openvino().Core().compile_model(graph, "CPU", settings)
        self._of_thread = threading.local()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors (B, D) float32, not normalised, of preprocessed images (B, 3, H, W).

        A stream uses one core, so a batch is split into as many parts as torch may use threads here.
        """
        parts = pixels.float().chunk(torch.get_num_threads())
        requests = self._requests(len(parts))
        for request, part in zip(requests, parts):
            request.start_async([part.contiguous().numpy()])
        for request in requests:
            request.wait()
        # The result lies in memory of the request, which its next run overwrites.
        return torch.cat([torch.tensor(request.get_output_tensor().data) for request in requests])

    def _requests(self, count: int) -> list[Any]:
        """The first `count` requests of the calling thread: a request runs one batch at a time."""
        own = self._of_thread.__dict__.setdefault("requests", [])
        own += [self._compiled.create_infer_request() for _ in range(count - len(own))]
        return own[:count]


class _Tower(torch.nn.Module):
    """The way through a model's image tower that encoding takes, as a module to export."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.module = model.module
        self.short = model.capabilities.skips_unread

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors (B, D), not normalised, of preprocessed images (B, 3, H, W)."""
        return read_images(self.module.visual, pixels) if self.short else self.module.encode_image(pixels)


def check_options(name: str, device: str, precision: Precision) -> None:
    """Refuse what OpenVINO cannot do here before anything is loaded.

    Raises:
        InputError: OpenVINO is not installed, or the kind of model, the device or the precision is not supported.
    """
    one_of(precision, "precision", tuple(DTYPES))
    _check_precision(precision)
    if device != "auto" and find_device(device).type != "cpu":
        raise InputError(
            f"Expected `device` 'auto' or 'cpu' with the engine 'openvino', which computes on the CPU, got {device!r}; "
            f"{WAY_OUT}"
        )
    if name.startswith(SENTENCE_TRANSFORMERS):
        raise InputError(
            f"Expected a model of open_clip or transformers with the engine 'openvino', got {format_value(name)}; "
            f"{WAY_OUT}"
        )
    _runtime.import_openvino()


def _check_precision(precision: Precision) -> None:
    if precision not in HINTS:
        raise InputError(
            f"Expected `precision` 'fp32' or 'bf16' with the engine 'openvino', got {precision!r}; {WAY_OUT}"
        )


def with_openvino(model: Model, precision: Precision) -> OpenVINOModel:
    """A copy of a model in fp32 on the CPU whose image tower OpenVINO runs in `precision`.

    Raises:
        InputError: the tower cannot be exported, or its vectors differ from those of PyTorch.
    """
    pixels = _samples(model)
    if pixels.ndim != 4:
        raise InputError(
            f"Expected a model whose images are all of one size with the engine 'openvino', got {model.name!r}, "
            f"which takes packed patches; {WAY_OUT}"
        )
    with _refusing(model):
        graph = _graph(_Tower(model), pixels)
    return _compiled(model, graph, precision)


def _samples(model: Model) -> torch.Tensor:
    """Two images of waves in the shape that the model's preprocessing gives."""
    shape = model.preprocess(Image.new("RGB", (64, 48))).shape
    return torch.linspace(-100, 100, 2 * shape.numel()).sin().mul(2).view(2, *shape)


def _graph(tower: torch.nn.Module, pixels: torch.Tensor) -> Any:
    """The tower as OpenVINO's graph, for any number of images."""
    openvino = _runtime.import_openvino()
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # pyright: ignore[reportMissingImports]

    with torch.no_grad():
        program = torch.export.export(tower, (pixels,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    # `openvino.convert_model` does the same, but also sends telemetry and sets the level of the root logger.
    decoder = TorchFXPythonDecoder.from_exported_program(program)
    frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def _compiled(model: Model, graph: Any, precision: Precision) -> OpenVINOModel:
    """The model with its graph compiled, which is compared with PyTorch on two images."""
    pixels = _samples(model)
    with _refusing(model):
        network = Network(graph, precision)
        vectors = unit_norm(network(pixels))
    exact = model.encode_pixels(pixels)
    difference = np.abs(vectors - exact).max()
    cosine = (vectors * exact).sum(axis=1).min()
    if not (difference < FP32_TOLERANCE if precision == "fp32" else cosine > BF16_COSINE):  # also where it is NaN
        raise InputError(
            f"Cannot run the image tower of {model.name!r} by OpenVINO: its vectors differ from those of PyTorch by up "
            f"to {difference:.1g}; {WAY_OUT}"
        )
    values = {part.name: getattr(model, part.name) for part in fields(Model) if part.name != "engine"}
    values |= {"precision": precision, "exact": None if precision == "fp32" else lambda: model}
    kind = OpenVINOTransformersModel if isinstance(model, TransformersModel) else OpenVINOModel
    return kind(**values, original=model, network=network)


@contextmanager
def _refusing(model: Model) -> Iterator[None]:
    """Report in one line what torch.export or OpenVINO cannot do; both raise their own kinds, over many lines."""
    try:
        with _runtime.quiet_export():
            yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"Cannot run the image tower of {model.name!r} by OpenVINO: {type(error).__name__}: {reason}; {WAY_OUT}"
        ) from error
