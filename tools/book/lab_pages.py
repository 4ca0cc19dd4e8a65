"""What the two labs of the book show: the data that their scripts load, and their pages' parts with a still figure."""

import base64
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import clipnb
from clipnb.describe import keyword_texts, load_descriptions, random_words
from clipnb.models import EMBEDDED_DIR, Model
from clipnb.similarity import unit_norm

TEMPLATES = Path(__file__).parent / "labs"
VALIDATION = EMBEDDED_DIR.parent / "icons/validation.parquet"
# The first validation drawing of each of these classes is a button of the draw lab, whatever the model says of it.
EXAMPLES = ("umbrella", "home", "cat", "bicycle", "key", "rocket", "guitar", "cactus")
TOP = 5
BAD_CLASSES = 24  # the prompt lab offers the classes with the lowest accuracy on validation
MIN_IMAGES = 5  # of a class that the prompt lab offers
ROWS = 6  # in the prompt lab's still table: half of the classes that words help, half of those that they do not
TEXTS_EACH = 3  # keywords or random texts of a class, as many as a class has descriptions


@dataclass(frozen=True)
class Lab:
    """Everything that the labs need from the model, computed once."""

    model: Model

    @cached_property
    def validation(self) -> clipnb.Embeddings:
        return clipnb.encode_images(self.model, clipnb.load_dataset("icons:validation"))

    @cached_property
    def test(self) -> clipnb.Embeddings:
        return clipnb.encode_images(self.model, clipnb.load_dataset("icons"))

    @cached_property
    def classes(self) -> list[dict]:
        return clipnb.load_dataset("icons:validation").notes["classes"]

    @cached_property
    def names(self) -> list[str]:
        return [entry["classname"] for entry in self.classes]

    @cached_property
    def classifier(self) -> np.ndarray:
        """(C, D) vectors of the bare names."""
        return clipnb.zero_shot_classifier(self.model, self.names)

    @cached_property
    def similarity(self) -> np.ndarray:
        """(N, C) of the validation images."""
        return self.validation.vectors @ self.classifier.T

    @cached_property
    def texts(self) -> dict[str, dict[str, list[str]]]:
        """Kind of text -> class -> texts."""
        descriptions = load_descriptions("icons").by_class
        keywords = {entry["classname"]: entry["keywords"] for entry in self.classes}
        return {
            "keywords": keyword_texts(keywords, TEXTS_EACH),
            "descriptions": descriptions,
            "nameless": {name: [text.partition(": ")[2] for text in texts] for name, texts in descriptions.items()},
            "random": random_words(descriptions),
        }

    @cached_property
    def words(self) -> list[str]:
        """The words of all descriptions except class names: what random texts are made of, as in `random_words`."""
        own = {word for name in self.names for word in re.findall(r"\w+", name.lower())}
        texts = (text for texts in self.texts["descriptions"].values() for text in texts)
        return sorted({word for text in texts for word in re.findall(r"\w+", text.lower())} - own)

    def right(self, c: int, texts: list[str]) -> int:
        """Number of the validation images of class c that are named right when c is described by these texts."""
        vector = unit_norm(clipnb.encode_texts(self.model, texts).mean(axis=0, keepdims=True))[0]
        own = self.validation.labels == c
        others = np.delete(self.similarity[own], c, axis=1).max(axis=1)
        return int((self.validation.vectors[own] @ vector > others).sum())

    @cached_property
    def bad_classes(self) -> list[dict]:
        """The worst classes on validation, those first that keywords or descriptions help more than random words do."""
        images = np.bincount(self.validation.labels, minlength=len(self.names))
        result = clipnb.evaluate(self.validation.vectors, self.classifier, self.validation.labels)
        accuracy = np.where(images >= MIN_IMAGES, result.per_class_accuracy, np.inf)
        rows = []
        for c in np.argsort(accuracy, kind="stable")[:BAD_CLASSES].tolist():
            name = self.names[c]
            right = {kind: self.right(c, by_class[name]) for kind, by_class in self.texts.items()}
            bare = round(result.per_class_accuracy[c] * images[c])
            gain = max(right["keywords"], right["descriptions"]) - max(bare, right["random"])
            rows.append({"index": c, "name": name, "images": int(images[c]), "bare": bare, "gain": gain, **right})
        return sorted(rows, key=lambda row: -row["gain"])


def half(vectors: np.ndarray) -> bytes:
    return np.ascontiguousarray(vectors, "<f2").tobytes()


def packed_json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def data_files(lab: Lab) -> dict[str, bytes]:
    """Name -> content of the files that the labs' scripts load."""
    drawings = pq.read_table(VALIDATION, columns=["image"])["image"].to_pylist()
    ends = np.cumsum([len(drawing) for drawing in drawings])
    offered = {row["name"] for row in lab.bad_classes}
    texts = {
        kind: {name: lines for name, lines in by_class.items() if name in offered}
        for kind, by_class in lab.texts.items()
        if kind != "random"  # the page draws its own
    }
    return {
        "classes": packed_json({"names": lab.names, "synonyms": [entry["synonyms"] for entry in lab.classes]}),
        "class-vectors": half(lab.classifier),
        "validation": packed_json({"labels": lab.validation.labels.tolist(), "ends": ends.tolist()}),
        "validation-vectors": half(lab.validation.vectors),
        "validation-images": b"".join(drawings),
        "texts": packed_json({**texts, "words": lab.words}),
        "test": packed_json({"labels": lab.test.labels.tolist()}),
        "test-vectors": half(lab.test.vectors),
    }


def pages(lab: Lab, sizes: dict[str, int]) -> dict[str, str]:
    """File name -> the lab's part of its page; `sizes` are the bytes of the files that a click loads."""

    def megabytes(*names: str) -> str:
        return f"{sum(sizes[name] for name in names) / 1e6:.0f} MB"

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    common = {"names": lab.names, "model": lab.model.name, "images": len(lab.validation.labels)}
    text_side = ("text-tower", "vocabulary")
    shared = ("runtime", "settings", "classes", "class-vectors")
    helped = [row for row in lab.bad_classes if row["gain"] > 0]
    walls = [row for row in lab.bad_classes if row["gain"] <= 0]
    prompt_data = ("validation", "validation-vectors", "validation-images", "texts")
    return {
        "draw.html": environment.get_template("draw.html").render(
            **common,
            examples=examples(lab),
            image_size=megabytes(*shared, "image-tower"),
            text_size=megabytes(*text_side),
        ),
        "prompt.html": environment.get_template("prompt.html").render(
            **common,
            helped=helped,
            walls=walls,
            still=helped[: ROWS // 2] + walls[: ROWS // 2],
            helping=len(helped[: ROWS // 2]),
            size=megabytes(*shared, *text_side, *prompt_data),
            test_size=megabytes("test", "test-vectors"),
            test_images=len(lab.test.labels),
        ),
    }


def examples(lab: Lab) -> list[dict]:
    """The example drawings, with the classes that the model finds most similar."""
    drawings = pq.read_table(VALIDATION, columns=["image"])["image"]
    found = []
    for name in EXAMPLES:
        place = int(np.argmax(lab.validation.labels == lab.names.index(name)))
        similarity = lab.similarity[place]
        best = np.argsort(-similarity, kind="stable")[:TOP]
        found.append(
            {
                "name": name,
                "src": "data:image/webp;base64," + base64.b64encode(drawings[place].as_py()).decode(),
                "top": [{"name": lab.names[c], "similarity": float(similarity[c])} for c in best],
                "median": float(np.median(similarity)),
            }
        )
    return found
