"""Print the built book, or some of its pages, into one PDF in the order of its contents, with bookmarks.

    python -m tools.book.pdf
    python -m tools.book.pdf handout --out handout.pdf

Pages print as their style sheet says: folded parts open, live figures as still images.
"""

import argparse
import io
from pathlib import Path

from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter
from sphinx_external_toc.parsing import parse_toc_yaml

from tools.book import chromium

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build/html"
SITE = "https://clipnb.github.io/clipnb/"
DRAWN = """() => [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')]
  .every((view) => view.previousElementSibling?.querySelector(".clipnb-figure"))"""
# links inside the book lead to its place on the web, not to this machine's files; those inside a page stay
LINKS = """([here, site]) => { for (const link of document.links)
  if (!link.getAttribute("href").startsWith("#")) link.href = link.href.replace(here, site); }"""


def main() -> None:
    if not (HTML / "index.html").is_file():
        raise SystemExit(f"There is no book in {HTML}; run `make book` first.")
    every = list(pages(parse_toc_yaml(ROOT / "book/_toc.yml")))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "pages", nargs="*", metavar="PAGE", help="for example handout or notebooks/04_pitfalls (default: all)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "_build/book.pdf")
    args = parser.parse_args()
    if unknown := set(args.pages) - set(every):
        parser.error(f"unknown page {min(unknown)!r}; there are: {', '.join(every)}")
    book = PdfWriter()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        tab = browser.new_page()
        for name in (name for name in every if name in args.pages or not args.pages):
            tab.goto((HTML / f"{name}.html").as_uri(), wait_until="networkidle")
            tab.wait_for_function(DRAWN)
            tab.evaluate(LINKS, [HTML.as_uri() + "/", SITE])
            sheets = tab.pdf(format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "15mm"))
            book.append(
                PdfReader(io.BytesIO(sheets)), outline_item=tab.title().partition(" — ")[0], import_outline=False
            )
    book.compress_identical_objects()
    scratch = args.out.with_suffix(".part")
    book.write(scratch)
    scratch.replace(args.out)
    print(f"{args.out}: {len(book.pages)} pages, {args.out.stat().st_size / 1e6:.1f} MB")


def pages(contents):
    """Names of the pages, parts and sections in reading order."""

    def below(name):
        yield name
        for tree in contents[name].subtrees:
            for item in tree.items:
                yield from below(str(item))

    return below(contents.root.docname)


if __name__ == "__main__":
    main()
