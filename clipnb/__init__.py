"""How to judge a CLIP model: metrics with honest statistics, the worst categories, margins and prompt ensembles.

The public names are listed in `__init__.pyi`; each is loaded when it is first used.
"""

from importlib import import_module

import lazy_loader

__version__ = "0.1.0"

_OLD_MODULES = {"comparison", "imagenet", "llm", "rehearsal", "reproduce"}  # they warn, and go with the next version
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str):
    return import_module(f"clipnb.{name}") if name in _OLD_MODULES else _load(name)
