"""Take images of the built book, each in light mode, in dark mode and on a phone: into docs/, for the README.

    python -m tools.book.screenshots
    python -m tools.book.screenshots tail=notebooks/05_worst_categories#.clipnb-figure --out images

PAGE may name, after "#", a CSS selector of what to put at the top of the image.
"""

import argparse
import io
from itertools import product
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tools.book import chromium

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build/html"
PICTURES = [
    "cover=intro",
    "lesson=notebooks/01_zero_shot_accuracy#.clipnb-figure[data-figure=recall]",
    "paper=notebooks/06_matching_margin#figure",
]
VIEWS = {  # name: (width, height, colour scheme)
    "light": (1280, 800, "light"),
    "dark": (1280, 800, "dark"),
    "phone": (390, 844, "light"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="*", metavar="NAME=PAGE[#SELECTOR]", default=PICTURES)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    pictures = {name: page.partition("#")[::2] for name, page in (picture.split("=", 1) for picture in args.pictures)}
    for page, _ in pictures.values():
        if not (HTML / f"{page}.html").is_file():
            raise SystemExit(f"There is no page {page!r} in {HTML}; run `make book` first.")
    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        for (name, (page, selector)), (view, (width, height, scheme)) in product(pictures.items(), VIEWS.items()):
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.goto((HTML / f"{page}.html").as_uri(), wait_until="networkidle")
            if selector:
                shown = tab.locator(selector).first
                shown.wait_for()
                shown.evaluate("e => { e.style.scrollMarginTop = '6rem'; e.scrollIntoView(); }")
            tab.wait_for_timeout(500)  # what moves comes to rest
            picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            # a third of the size; rare colours are kept
            picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)
            picture.save(args.out / f"{name}-{view}.png", optimize=True)
            tab.close()


if __name__ == "__main__":
    main()
