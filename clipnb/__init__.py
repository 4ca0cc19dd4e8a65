"""How to judge a CLIP model: metrics with honest statistics, the worst categories, margins and prompt ensembles.

Every public name is found from here; heavy modules are loaded when first asked for.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = ("comparison", "datasets", "describe", "embeddings", "encode", "ensemble", "errors", "evaluation", "explain",
            "imagenet", "llm", "margin", "metrics", "models", "plots", "prompts", "rehearsal", "report", "reproduce",
            "similarity", "widgets", "worst", "zeroshot")
_NAMES = {
    "audit": "report", "Embeddings": "embeddings", "InputError": "errors", "encode_images": "encode", "encode_texts": "encode",
    "evaluate": "evaluation", "evaluate_prompts": "evaluation", "evaluate_store": "evaluation",
    "EvaluationResult": "evaluation",
    "load_dataset": "datasets", "load_model": "models", "prompt_vectors": "zeroshot",
    "zero_shot_classifier": "zeroshot",
}
__all__ = [*_MODULES, *_NAMES, "__version__"]


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"clipnb.{name}")
    if name in _NAMES:
        return getattr(import_module(f"clipnb.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'clipnb' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
