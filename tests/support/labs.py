"""The two labs of the book in a browser: their pages in a folder, the model's inputs and outputs, and a mouse."""

import base64
import io
import random
import subprocess
import sys
from pathlib import Path

import ftfy
import numpy as np
from PIL import Image

from clipnb.datasets._images import flatten

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "book/_vendor"
STATIC = ROOT / "book/static"
# nothing but files beside the page and scripts made from them; no connection to anywhere
POLICY = "; ".join(
    [
        "default-src 'none'",
        "connect-src 'none'",
        "script-src file: blob: 'wasm-unsafe-eval'",
        "style-src file:",
        "img-src file: data: blob:",
    ]
)
PAGE = """<!doctype html>
<html lang="en" data-theme="light">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <meta http-equiv="Content-Security-Policy" content="{policy}">
  <title>{name}</title>
  <link rel="stylesheet" href="_static/labs.css">
</head>
<body><main class="bd-article"><h1>{name}</h1>{lab}</main></body>
</html>
"""


def lay_out(folder):
    """Write a page for each lab into a folder, under a strict policy, from the same parts as the book's."""
    for step in ("page_scripts", "browser_model"):
        subprocess.run([sys.executable, "-m", f"tools.book.{step}"], cwd=ROOT, check=True)
    static = folder / "_static"
    static.mkdir()
    for source in (STATIC / "scripts", STATIC / "labs.css", VENDOR / "lab", VENDOR / "vendor"):
        (static / source.name).symlink_to(source)
    for name in ("draw", "prompt"):
        lab = (VENDOR / f"lab/{name}.html").read_text("utf-8")
        (folder / f"{name}.html").write_text(PAGE.format(name=name, policy=POLICY, lab=lab), "utf-8")


# ---- Texts ----------------------------------------------------------------------------------------------------------

TOKENS = """async (texts) => {
  const { tokenizer } = await clipnb.textTower(() => {});
  return texts.map((text) => tokenizer.encode(text));
}"""
TEXT_VECTORS = (
    """async (texts) => (await (await clipnb.textTower(() => {})).encode(texts)).map((vector) => [...vector])"""
)
WORDS = """
“smart” ‚low’ l’œuf Ünïcödé ÇA piñata ¡olé! Þór đ ſt ﬃ ﬆ Ｔｏｋｙｏ ｶﾀｶﾅ ５０％
ру́сский ЁЖ Γειά ΟΔΟΣ שלום مرحبا हिंदी ไทย 東京 熊猫 한글
&amp; &lt;b&gt; &#233; &#x1F600; &eacute; &Eacute; &NTILDE; &nbsp; &amp;amp; &notit; &#150; &#1; AT&T & <i> </i>
🍕 👩🏾‍🚀 1️⃣ ☂️ … — - _ 's n't U.S. № ℃ Ⅷ ǉ İ ı ẞ [SEP] [mask] ##s ™ ½ ² 3.14 1,000 \\ / | ~ ^ ` $ + = {} ()
dog DOG cat-face photo qzxv
"""
BLANKS = (
    "\u200d \u200b \u00ad \ufeff \u2028 \t \n \r\n \u00a0 \u3000 \x85 \x00 \x7f \ufffd \ufffc e\u0301 o\u0308\u0323"
)
LONG = ["x" * 101, "long " * 70, "\x93hi\x94", "\x1b[31mred\x1b[0m", "a photo of"]
PIECES = [*WORDS.split(), *BLANKS.split(" "), *LONG]


def odd_strings(count):
    """Strings of odd pieces, except those whose encoding ftfy would repair, which the page does not."""
    rng, strings = random.Random(0), []
    while len(strings) < count:
        text = "".join(rng.choice(("", "", " ", " a ")) + rng.choice(PIECES) for _ in range(rng.randint(1, 6)))
        if ftfy.fix_text(text) == ftfy.fix_text(text, fix_encoding=False):
            strings.append(text)
    return strings


def tokens_in_page(page, texts):
    return page.evaluate(TOKENS, texts)


def tokens_in_python(model, texts):
    tokens = model.tokenizer(texts)
    return [row[:length].tolist() for row, length in zip(tokens, model.prompt_lengths(tokens), strict=True)]


def texts_in_page(page, texts):
    """(N, D) vectors."""
    return np.array(page.evaluate(TEXT_VECTORS, texts))


# ---- Images ---------------------------------------------------------------------------------------------------------

# images as base64 of their files: their pixels, and the vectors
IMAGES = """async (files) => {
  const { encode } = await clipnb.imageTower(() => {}), { size } = await clipnb.settings(), found = [];
  for (const file of files) {
    const image = await clipnb.imageData(new Blob([Uint8Array.from(atob(file), (c) => c.charCodeAt(0))]));
    const bytes = clipnb.squarePixels(image, size).reduce((text, byte) => text + String.fromCharCode(byte), "");
    found.push({ pixels: btoa(bytes), vector: [...await encode(image)] });
  }
  return found;
}"""


def images_in_page(page, files, batch=60):
    """Pixels (N, side, side, 3) that the image tower reads, and vectors (N, D), of images given as bytes of files."""
    found = []
    for start in range(0, len(files), batch):
        found += page.evaluate(IMAGES, [base64.b64encode(file).decode() for file in files[start : start + batch]])
    pixels = np.stack([np.frombuffer(base64.b64decode(image["pixels"]), np.uint8) for image in found])
    size = round((pixels.shape[1] / 3) ** 0.5)
    pixels = pixels.reshape(-1, size, size, 3)
    return pixels, np.array([image["vector"] for image in found])


def images_in_python(model, images):
    """The pixels before they are normalized, and the vectors."""
    scale = model.config["preprocessing"]
    tensors = [model.preprocess(flatten(image)) for image in images]
    pixels = [(t.permute(1, 2, 0).numpy() * scale["std"] + scale["mean"]) * 255 for t in tensors]
    return np.stack(pixels).round().astype(np.uint8), np.concatenate([model.encode_pixels(t[None]) for t in tensors])


def encoded(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def large_images(data, count):
    """Drawings of the set at 97 to 900 pixels a side, every second one with an edge that fades out."""
    rng, images = np.random.default_rng(0), []
    for i in rng.choice(len(data), count, replace=False):
        image = data[int(i)][0].resize(tuple(rng.integers(97, 901, 2).tolist()), Image.Resampling.LANCZOS)
        if len(images) % 2:
            fading = np.linspace(0, 255, image.width).astype(np.uint8)
            image.putalpha(Image.fromarray(np.tile(fading, (image.height, 1))))
        images.append(image)
    return images


# ---- The mouse ------------------------------------------------------------------------------------------------------


def draw(page, strokes):
    """Draw with the mouse, in the canvas' own pixels."""
    canvas = page.locator("[data-lab-canvas]")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    scale = box["width"] / 280
    for stroke in strokes:
        (x, y), *others = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in stroke]
        page.mouse.move(x, y)
        page.mouse.down()
        for x, y in others:
            page.mouse.move(x, y, steps=5)
        page.mouse.up()
