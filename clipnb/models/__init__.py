"""Load a CLIP model: the embedded default, a name open_clip knows, a folder, or a Hugging Face repository."""

from clipnb.models._capabilities import Capabilities
from clipnb.models._loading import EMBEDDED, EMBEDDED_DIR, find_device, load_model
from clipnb.models._model import DTYPES, Model, Precision
from clipnb.models._preprocess import Preprocess
from clipnb.models._wrapped import WrappedModel, wrap_model

__all__ = [
    "DTYPES",
    "EMBEDDED",
    "EMBEDDED_DIR",
    "Capabilities",
    "Model",
    "Precision",
    "Preprocess",
    "WrappedModel",
    "find_device",
    "load_model",
    "wrap_model",
]
