"""A Sphinx extension of this book: the cover's image, the page of figures and the handout, all from the executed
notebooks, and names that screen readers need and the theme does not give. See local_extensions in _config.yml.
"""

import json
import re
from base64 import b64decode, b64encode
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from plain_markdown import read_notebook

from clipnb import widgets

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
ORANGE, GREY = "#c4500a", "#b9c3cc"
ROWS, PICTURES = 8, 6
TERMS = 6  # most definitions of a chapter in the handout


def executed(app) -> list[tuple[Path, dict]]:
    """Path and content of each executed notebook, its Markdown in the syntax of MyST."""
    notebooks = []
    for path in sorted(Path(app.srcdir, "notebooks").glob("[0-9][0-9]_*.ipynb")):
        source = [path.read_text("utf-8")]
        read_notebook(app, f"notebooks/{path.stem}", source)
        notebooks.append((path, json.loads(source[0])))
    return notebooks


def live_figures(notebook: dict) -> dict[str, dict]:
    """Widget id -> synced state of each live figure."""
    models = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    return {key: model["state"] for key, model in models.items() if "_anywidget_id" in model["state"]}


def numbers_of(notebook: dict) -> dict[str, str]:
    """What the text of an executed notebook quotes, by name: its last output of JSON."""
    found = (
        output["data"]["application/json"]
        for cell in reversed(notebook["cells"])
        for output in cell.get("outputs", [])
        if "application/json" in output.get("data", {})
    )
    return next(found, {})


def quote_numbers(app, docname: str, source: list[str]) -> None:
    """Replace {number}`name` on a page of prose by that number of a chapter."""
    if "{number}`" in source[0]:
        numbers = {name: value for _, notebook in executed(app) for name, value in numbers_of(notebook).items()}
        source[0] = re.sub(r"\{number\}`([^`]+)`", lambda match: numbers[match[1]], source[0])


# ---- the cover ------------------------------------------------------------------------------------------------------


def tail(app) -> tuple[int, int, list[dict]]:
    """Classes never recognised, classes in all, and some of the former (name, and an image with its wrong name),
    from chapter 5."""
    notebook = next(notebook for path, notebook in executed(app) if path.stem == "05_worst_categories")
    numbers = numbers_of(notebook)
    zero, classes = (int(numbers[f"ch5-{name}"].replace(",", "")) for name in ("zero", "classes"))
    atlas = next(state["content"] for state in live_figures(notebook).values() if "sheet" in state["content"])
    return zero, classes, repeated_mistakes(atlas)[:PICTURES]


def repeated_mistakes(atlas: dict) -> list[dict]:
    """Of each class that is never recognised and is taken for the same other class at least twice, an image."""
    sheet = Image.open(BytesIO(b64decode(atlas["sheet"]["src"].partition(",")[2]))).convert("RGB")
    side, columns, names = atlas["sheet"]["side"], atlas["sheet"]["columns"], atlas["names"]
    places = {}
    for place, (actual, predicted, _) in enumerate(atlas["images"]):
        places.setdefault((actual, predicted), place)
    found = []
    for c, right, answers in zip(atlas["classes"], atlas["right"], atlas["answers"], strict=True):
        rival, times = answers[0] if answers else (c, 0)
        if right or times < 2 or (c, rival) not in places:
            continue
        row, column = divmod(places[c, rival], columns)
        file = BytesIO()
        sheet.crop((side * column, side * row, side * (column + 1), side * (row + 1))).save(file, "PNG")
        source = "data:image/png;base64," + b64encode(file.getvalue()).decode()
        found.append({"name": names[c], "src": source, "guess": names[rival], "times": times})
    return sorted(found, key=lambda mistake: -mistake["times"])


def squares(zero: int, classes: int) -> str:
    """One square a class, in columns; those never recognised come first."""

    def path(numbers, kind):
        return (
            f'<path class="{kind}" d="'
            + "".join(f"M{10 * (i // ROWS)},{10 * (i % ROWS)}h8v8h-8z" for i in numbers)
            + '"/>'
        )

    return (
        f'<svg viewBox="0 0 {10 * -(-classes // ROWS) - 2} {10 * ROWS - 2}" role="img" aria-label="{classes} '
        f"squares, one a class; "
        f"{zero} of them, in orange, are never "
        f'recognised">{path(range(zero), "never")}{path(range(zero, classes), "other")}</svg>'
    )


def draw_cover(app, docname: str, source: list[str]) -> None:
    if docname != "intro":
        return
    zero, classes, examples = tail(app)
    pictures = "".join(
        f'<li><img src="{picture["src"]}" alt="a drawing of the class “{escape(picture["name"])}”" '
        'width="64" height="64">'
        f"<b>{escape(picture['name'])}</b> “{escape(picture['guess'])}”</li>"
        for picture in examples
    )
    source[0] = source[0].replace(
        "<!-- picture -->", f'<div class="cover-picture">{squares(zero, classes)}<ul>{pictures}</ul></div>'
    )


def draw_preview(app, error) -> None:
    """The same as an image for link previews, 1200 x 630."""
    if error or app.builder.name != "html":
        return
    zero, classes, examples = tail(app)
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    place = np.arange(classes)
    ax = figure.add_axes((0.07, 0.42, 0.86, 0.2), aspect="equal", anchor="W")
    ax.scatter(
        place // ROWS,
        -(place % ROWS),
        marker="s",
        s=64,
        clip_on=False,
        c=np.where(place < zero, ORANGE, GREY),
        linewidths=0,
    )
    ax.margins(0)
    ax.set_axis_off()
    figure.text(0.06, 0.85, "How good is your CLIP model?", fontsize=44, color="#24292f")
    figure.text(0.06, 0.73, f"{classes} classes. {zero} of them are never recognised.", fontsize=27, color=ORANGE)
    for i, picture in enumerate(examples):
        ax = figure.add_axes((0.06 + 0.148 * i, 0.13, 0.1, 0.19))
        ax.imshow(Image.open(BytesIO(b64decode(picture["src"].partition(",")[2]))).convert("RGB"))
        ax.set_title(f"“{picture['guess']}”", y=-0.32, fontsize=14, parse_math=False)
        ax.set_axis_off()
    figure.savefig(Path(app.outdir, "_static/preview.png"))


# ---- the page of figures --------------------------------------------------------------------------------------------


def list_figures(app, docname: str, source: list[str]) -> None:
    if docname != "figures":
        return
    for path, notebook in executed(app):
        rows = [
            "| {} | {} |".format(figure, " ".join(caption.split()).replace("|", r"\|"))
            for figure, caption in figures(notebook)
        ]
        if rows:
            source[0] += (
                f"\n**{{doc}}`notebooks/{path.stem}`:** `python -m tools.book.run_notebooks {path.stem[:2]}`\n\n"
            )
            source[0] += "\n".join(["| Figure | What it shows |", "|---|---|", *rows]) + "\n"


def figures(notebook: dict):
    """(reference, caption) of each captioned and each live figure of an executed notebook, in order."""
    states = live_figures(notebook)
    for cell in notebook["cells"]:
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        if "name" in figure:
            yield f"{{numref}}`{figure['name']}`", figure["caption"]
        for output in cell.get("outputs", []):
            if VIEW in output.get("data", {}):
                name = states[output["data"][VIEW]["model_id"]]["_anywidget_id"].rpartition(".")[2]
                yield f"live: {{py:class}}`~clipnb.widgets.{name}`", getattr(widgets, name).__doc__.splitlines()[0]


# ---- the handout ----------------------------------------------------------------------------------------------------


def write_handout(app, docname: str, source: list[str]) -> None:
    """Of each chapter: objectives, first chart, the terms it uses with their definitions, and its questions without
    the answers."""
    if docname != "handout":
        return
    terms = definitions(Path(app.srcdir, "glossary.md").read_text("utf-8"))
    for path, notebook in executed(app):
        text = "\n\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        objectives = re.search(r":class: tip\n+(- .+?)\n\n", text, re.DOTALL)[1]
        named = dict.fromkeys(name.lower() for name in re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", text))
        source[0] += (
            "\n\n".join(
                [
                    f"\n## {int(path.stem[:2])}. {title}",
                    f"After {{doc}}`the chapter <notebooks/{path.stem}>` you can",
                    objectives,
                    chart(notebook),
                    *(terms[name] for name in list(named)[:TERMS]),
                    *map(question, re.findall(r'<div class="quiz".*?\n</div>', text, re.DOTALL)),
                ]
            )
            + "\n"
        )


def question(quiz: str) -> str:
    asked, options = (
        re.search(r"<p id=[^>]*>(.*?)</p>", quiz, re.DOTALL)[1],
        re.findall(r"<summary>(.*?)</summary>", quiz, re.DOTALL),
    )
    return (
        f'<p class="question">{asked}</p><ul class="options">'
        + "".join(f"<li>{option}</li>" for option in options)
        + "</ul>"
    )


def definitions(glossary: str) -> dict[str, str]:
    """Term in lower case -> the term and its entry, without the pointer to a chapter."""
    entries = re.findall(r"^((?:\S.*\n)+)    (.+)$", glossary.partition("```{glossary}\n")[2], re.MULTILINE)
    return {
        name.lower(): f"**{name}:** " + re.sub(r"[.,] [Ss]ee \{doc\}`[^`]+`", "", text)
        for names, text in entries
        for name in names.splitlines()
    }


def chart(notebook: dict) -> str:
    """The first captioned figure, a chart where there is one; other images may give none."""
    drawn = [
        (cell["metadata"]["mystnb"], output["data"]["image/png"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {}) and "figure" in cell["metadata"].get("mystnb", {})
    ]
    if not drawn:
        return ""
    about, png = min(drawn, key=lambda figure: figure[0]["image"].get("classes") == "pictures")
    return (
        f'<figure class="sheet"><img class="{about["image"].get("classes", "")}" '
        f'src="data:image/png;base64,{png.strip()}" alt="{escape(about["image"]["alt"])}">'
        f"<figcaption>{escape(about['figure']['caption'])}</figcaption></figure>"
    )


# ---- names for screen readers ---------------------------------------------------------------------------------------


def name_things(app, pagename, templatename, context, doctree) -> None:
    """Name the sidebar's fold, and do not call the bibliography a list: it also holds links back."""
    toctree = context["generate_toctree_html"]
    fold = '<summary><span class="toctree-toggle"'
    context["generate_toctree_html"] = lambda *args, **kwargs: str(toctree(*args, **kwargs)).replace(
        fold, fold.replace("<summary", '<summary aria-label="pages of this part"')
    )
    if pagename == "bibliography":
        context["body"] = context["body"].replace(' role="list"', "").replace(' role="doc-biblioentry"', "")


def setup(app) -> dict:
    app.connect("source-read", quote_numbers)
    app.connect("source-read", draw_cover)
    app.connect("source-read", list_figures)
    app.connect("source-read", write_handout)
    app.connect("html-page-context", name_things, priority=900)  # after the theme
    app.connect("build-finished", draw_preview)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
