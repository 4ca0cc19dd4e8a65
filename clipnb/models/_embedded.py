"""The embedded model, whose network is opened when something is first encoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from clipnb.models._model import Model

FACTS = "facts.json"  # beside the weights; written by tools/mini/facts.py


class EmbeddedModel(Model):
    """clipnb-mini in fp32 on the CPU.

    Importing open_clip and building the network takes longer than everything else that most commands do, and vectors
    of the shipped sets are usually read from the user's cache. So what a run needs to know of the model without
    encoding anything, such as its fingerprints, is read from a file that is shipped with the weights.
    """

    _open: Callable[[], Model]

    @classmethod
    def closed(cls, folder: Path, opened: Callable[[], Model], **identity: Any) -> EmbeddedModel:
        """The model of a folder with a file of facts; `opened` builds its network."""
        model = object.__new__(cls)
        facts = json.loads((folder / FACTS).read_text("utf-8"))
        # The facts take the places of the cached properties of the same names.
        vars(model).update(identity, device=torch.device("cpu"), precision="fp32", exact=None, _open=opened, **facts)
        return model

    @cached_property
    def _opened(self) -> Model:
        return self._open()

    @cached_property
    def module(self) -> Any:
        """open_clip's CLIP."""
        return self._opened.module

    @cached_property
    def preprocess(self) -> Any:
        """PIL image -> (3, H, W) float tensor."""
        return self._opened.preprocess

    @cached_property
    def tokenizer(self) -> Any:
        """List of B strings -> (B, context) token ids."""
        return self._opened.tokenizer

    @cached_property
    def config(self) -> Any:
        """The architecture and the preprocessing with open_clip's defaults filled in."""
        return self._opened.config
