"""Slides of the lesson, chapters 1 to 4, from the figures and numbers of the executed notebooks: reveal.js and PDF.

    python -m tools.book.slides

Writes `_build/html/slides/index.html`, which needs no network, and `slides.pdf` beside it.
"""

import json
import re
import shutil
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from playwright.sync_api import sync_playwright
from traitlets.config import Config

from tools.book import chromium

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "book/notebooks"
OUT = ROOT / "_build/html/slides"

# title, text with {names} of the chapters' numbers, and the name of a figure or none
SLIDES = [
    ("How good is your CLIP model?", "A lesson in sixty minutes: four metrics, four pitfalls, one vote.", None),
    (
        "Ready for production?",
        "A CLIP model has an **accuracy of 98 %**, but a **recall of only 12 %** on a rare class, fire trucks.\n\n"
        "Is it ready for production? Vote now; we vote again at the end.",
        None,
    ),
    (
        "From similarities to answers",
        "Each image and each text becomes a vector. The text with the largest similarity is the answer. "
        "Right: {ch1-trio-right}.",
        "fig-01-trio",
    ),
    (
        "Zero-shot accuracy, and compared with what?",
        "{ch1-accuracy} of {ch1-n} images (interval {ch1-ci}). Guessing gets {ch1-chance}, a look-alike "
        "{ch1-look-alike}.",
        "fig-01-baselines",
    ),
    (
        "Recall@K: is the right answer near the top?",
        "Of {ch1-misses} wrong first guesses, {ch1-rescued} have the right class among the first five.",
        "fig-01-recall",
    ),
    (
        "The confusion matrix",
        "Row = what it was, column = what the model said. Rows give recall, columns give precision: cat has "
        "a recall of {ch2-recall-cat} and a precision of {ch2-precision-cat}.",
        "fig-02-toy",
    ),
    (
        "Dogs in a gallery: precision and recall",
        "**Precision:** of the images shown, how many are dogs? **Recall:** of all dogs, how many are shown?",
        "fig-03-toy",
    ),
    (
        "Two promises",
        "- A **toy shop** fills a page with dogs. A cat on the page is embarrassing: favour **precision**, a high "
        "threshold.\n- An **animal shelter** looks for a lost dog. One dog overlooked is the dog: favour **recall**, a "
        "low threshold.\n\nNothing about the model changes between the two; only the threshold does.",
        None,
    ),
    (
        "Good or bad? It depends on the exam",
        "Rule of thumb: accuracy above 70 % and Recall@5 above 90 % are good; accuracy below 50 % or a low recall is "
        "bad. Among {ch1-smallest} classes this model scores {ch1-two}, among all {ch1-classes} {ch1-accuracy}.",
        "fig-01-classes",
    ),
    (
        "Pitfall 1: the accuracy paradox",
        "With every second image from a hard class, accuracy is {ch4-half}; with every fiftieth, {ch4-two}. Recall on "
        "the hard classes is {ch4-hard-recall} throughout.",
        "fig-04-paradox",
    ),
    (
        "Pitfall 2: data leakage",
        "{ch4-leak}. Captions and names leak, too. An interval says nothing about leakage.",
        "fig-04-leak",
    ),
    (
        "Pitfall 3: overfitting by fine-tuning",
        "Tuned classes {ch4-tune-task} points, classes left out {ch4-tune-left} points. Score a second task before and "
        "after.",
        "fig-04-tuning",
    ),
    (
        "Pitfall 4: ignoring top-K",
        "Two classifiers with the same first guesses can differ in everything below. Of {ch4-zero} classes at 0 %, "
        "{ch4-near} are near misses and {ch4-lost} are lost.",
        "fig-04-near",
    ),
    (
        "Vote again",
        "A program that never says “fire truck” has the same 98 %. **No, it is not ready**: of every hundred fire "
        "trucks it misses {ch4-paradox-missed}. For rare but important classes recall matters more than "
        "overall accuracy.",
        None,
    ),
    (
        "What to take away",
        "- A score stands beside chance and a baseline, and inside an interval.\n- Recall belongs to the model; "
        "precision belongs to the model and the mix.\n- Report recall and precision of the "
        "classes that matter.\n- Choose on validation, report on test, look for copies, score a second task.",
        None,
    ),
]


def executed() -> tuple[dict[str, str], dict[str, str]]:
    """The numbers that chapters 1 to 4 quote, by name, and their charts as base64, by figure name."""
    numbers, charts = {}, {}
    for path in sorted(NOTEBOOKS.glob("0[1-4]_*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
            for output in cell.get("outputs", []):
                numbers |= output.get("data", {}).get("application/json", {})
                if name and "image/png" in output.get("data", {}):
                    charts[name] = output["data"]["image/png"].replace("\n", "")
    return numbers, charts


def filled(text: str, numbers: dict[str, str]) -> str:
    """The text with the numbers of this run."""
    return re.sub(r"\{([\w-]+)\}", lambda name: numbers[name[1]], text)


def slide(title: str, text: str, chart: str | None) -> nbformat.NotebookNode:
    """One slide as a Markdown cell."""
    image = f'\n\n<img alt="" src="data:image/png;base64,{chart}">' if chart else ""
    cell = nbformat.v4.new_markdown_cell(f"## {title}\n\n{text}{image}")
    cell.metadata["slideshow"] = {"slide_type": "slide"}
    return cell


def main() -> None:
    numbers, charts = executed()
    if not numbers:
        raise SystemExit(f"There are no executed chapters in {NOTEBOOKS}; run `make book` first.")
    cells = [slide(title, filled(text, numbers), charts[figure] if figure else None) for title, text, figure in SLIDES]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"title": SLIDES[0][0]})
    config = Config({"SlidesExporter": {"reveal_url_prefix": "reveal.js", "reveal_theme": "white"}})
    exporter = SlidesExporter(config=config, template_name="slides", extra_template_basedirs=[str(ROOT / "tools/book")])
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(ROOT / "book/_vendor/vendor/reveal", OUT / "reveal.js")
    (OUT / "index.html").write_text(exporter.from_notebook_node(notebook)[0], "utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        tab = browser.new_page()
        tab.goto((OUT / "index.html").as_uri() + "?print-pdf", wait_until="networkidle")
        tab.wait_for_function("document.querySelectorAll('.pdf-page').length > 1")
        tab.pdf(path=OUT / "slides.pdf", prefer_css_page_size=True, print_background=True)
    print(f"{OUT}/index.html: {len(SLIDES)} slides")


if __name__ == "__main__":
    main()
