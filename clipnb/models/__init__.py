"""Load a CLIP model: the embedded default, a name that open_clip knows, a local folder, or a repository of the Hugging Face hub."""

from clipnb.models._loading import EMBEDDED, EMBEDDED_DIR, find_device, load_model
from clipnb.models._model import DTYPES, Model

__all__ = ["DTYPES", "EMBEDDED", "EMBEDDED_DIR", "Model", "find_device", "load_model"]
