"""Write clipnb/assets/clipnb-mini/facts.json: what is known of the embedded model before its network is opened.

python -m tools.mini.facts      # after the model's files were made anew, and before tools.release.checksums
"""

import json

from clipnb.models import EMBEDDED_DIR, load_model
from clipnb.models._embedded import FACTS

NAMES = (
    "dimensions",
    "fingerprint",
    "text_fingerprint",
    "settings",
    "logit_scale",
    "logit_bias",
    "context_length",
    "padding_id",
)


def facts() -> dict:
    """Properties of the model as they are measured on the opened network."""
    model = load_model(f"local-dir:{EMBEDDED_DIR}", device="cpu")
    return {name: getattr(model, name) for name in NAMES}


if __name__ == "__main__":
    (EMBEDDED_DIR / FACTS).write_text(json.dumps(facts(), indent=1) + "\n", encoding="utf-8")
