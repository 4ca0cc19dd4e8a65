"""The built book in a real browser, with every other host out of reach: over http and from file://."""

import functools
import http.server
import io
import itertools
import json
import re
import subprocess
import sys
import threading
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag, urlsplit

import numpy as np
import pytest
import yaml
from axe_playwright_python.base import AXE_SCRIPT
from pybtex.database import parse_string
from pypdf import PdfReader
from pypdf.generic import IndirectObject

import clipnb
from clipnb import margin, widgets
from clipnb.widgets._base import MAX_BYTES
from tests.support.shared import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build/html"
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
DESKTOP, PHONE, PAPER = (
    {"width": w, "height": h} for w, h in ((1280, 800), (390, 844), (718, 1000))
)  # A4 less its margins
TABS = 3  # pages that are open at once
VIEW = "application/vnd.jupyter.widget-view+json"
FOLDED = ".bd-article details:not(.cite-page)"  # what opens on paper
NEAR = 2 / 8254  # two images: the last bits of a similarity depend on the machine's threads


# The site, the browser, and a page that takes notes


@pytest.fixture(scope="module")
def pages():
    """Every page, as a path below the site's root."""
    if not (HTML / "index.html").is_file():
        pytest.fail("there is no _build/html: run `make book` first")
    return sorted(p.relative_to(HTML).as_posix() for p in HTML.rglob("*.html") if "_static" not in p.parts)


@pytest.fixture(scope="module")
def roots():
    """Where the site is found: the two ways a reader may open it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"http": f"http://127.0.0.1:{server.server_port}/", "file": HTML.as_uri() + "/"}
    server.shutdown()


class Reader:
    """A browser page that reaches only the site, and writes down whatever goes wrong."""

    def __init__(self, browser, root, **options):
        self.root, self.problems = root, []
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(1000 * PATIENCE)
        self.context.route("**/*", self.gate)
        self.page = page = self.context.new_page()
        page.on("requestfailed", lambda r: self.note(f"request failed: {r.url} ({r.failure})"))
        page.on("response", lambda r: r.status >= 400 and self.note(f"HTTP {r.status}: {r.url}"))
        page.on("pageerror", lambda e: self.note(f"page error: {e}"))
        page.on("console", lambda m: m.type == "error" and self.note(f"console error: {m.text}"))

    def note(self, problem):
        self.problems.append(f"{self.page.url.removeprefix(self.root)}: {problem}")

    def gate(self, route):
        url = route.request.url
        if url.startswith((self.root, "data:", "blob:")):
            route.continue_()
        else:
            self.note(f"request to another place: {url}")
            route.abort()

    def open(self, name):
        self.page.goto(self.root + name)
        return self.settle()

    def settle(self):
        """The page, once nothing was asked for during half a second and the live figures are drawn."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_function(
            """() => [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')]
                     .every(s => s.previousElementSibling?.querySelector(".clipnb-figure"))"""
        )
        return self.page

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()


@pytest.fixture(params=["http", "file"])
def reader(request, browser, roots):
    with Reader(browser, roots[request.param]) as reader:
        yield reader


# One walk through the book, of which many tests read the notes -------------------------------------------------------

# code has hundreds of words in a few colours: one word of each colour on each ground is enough
ONE_OF_EACH = """() => {
  const seen = new Set(), style = (node) => getComputedStyle(node);
  for (const word of document.querySelectorAll("pre span")) {
    const look = [style(word).color, style(word).backgroundColor, style(word.closest("pre")).backgroundColor].join();
    word.toggleAttribute("data-seen", seen.has(look));
    seen.add(look);
  }
}"""
START_AXE = """(options) => { window.axeFound = new Promise((done) => setTimeout(() =>
  axe.run({exclude: [["[data-seen]"]]}, {...options, resultTypes: ["violations"], preload: false}).then(done, \
done))); }"""
SERIOUS = """async () => (await window.axeFound).violations.filter((found) => ["serious", \
"critical"].includes(found.impact))
  .flatMap((found) => found.nodes.map((node) => `${found.id}: ${node.html.slice(0, 200)} (${node.failureSummary})`))"""
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((sum, entry) => sum + entry.decodedBodySize, 0)"""
# what would be cut off on paper
CUT = """() => [...document.querySelectorAll(".bd-article :is(pre, table, .clipnb-figure)")].filter((node) => \
node.checkVisibility())
  .filter((node) => node.scrollWidth > node.clientWidth + 1 || node.getBoundingClientRect().right > innerWidth + 1)
  .map((node) => `${node.tagName} ${node.className}: ${node.textContent.trim().slice(0, 60)}`)"""


@pytest.fixture(scope="module")
def visits(browser, roots, pages):
    """Page -> what was seen: problems, weight (bytes), what axe says, width on a phone, cut on paper."""
    readers = [Reader(browser, roots["http"], viewport=DESKTOP, color_scheme="light") for _ in range(TABS)]
    visits = {}
    for start in range(0, len(pages), TABS):
        batch = list(zip(readers, pages[start : start + TABS], strict=False))
        for reader, name in batch:
            reader.page.set_viewport_size(DESKTOP)
            reader.page.emulate_media(media="screen", color_scheme="light")
            reader.page.goto(roots["http"] + name, wait_until="commit")
        for reader, name in batch:
            page = reader.settle()
            visits[name] = SimpleNamespace(weight=page.evaluate(WEIGHT))
            page.add_style_tag(content="* { transition: none !important }")  # axe would see colours half-way to dark
        for options, scheme in ({}, "light"), ({"runOnly": ["color-contrast"]}, "dark"):
            for reader, _ in batch:
                reader.page.emulate_media(color_scheme=scheme)
                reader.page.wait_for_selector(f"html[data-theme={scheme}]", state="attached")
                reader.page.evaluate(ONE_OF_EACH)
                reader.page.evaluate(AXE_SCRIPT)
                reader.page.evaluate(START_AXE, options)
            for reader, name in batch:
                setattr(visits[name], scheme, reader.page.evaluate(SERIOUS))
        for reader, name in batch:
            reader.page.set_viewport_size(PHONE)
            visits[name].phone = reader.page.evaluate("document.documentElement.scrollWidth")
            reader.page.set_viewport_size(PAPER)
            reader.page.emulate_media(media="print", color_scheme="light")
            visits[name].cut = reader.page.evaluate(CUT)
            visits[name].problems, reader.problems = reader.problems, []
    for reader in readers:
        reader.context.close()
    return visits


def told(visits, note):
    return [f"{name}: {line}" for name, visit in visits.items() for line in getattr(visit, note)]


def test_every_page_opens_with_no_other_host(visits):
    assert not told(visits, "problems"), "\n".join(told(visits, "problems"))


def test_every_page_opens_from_a_folder(browser, roots, pages):
    readers = [Reader(browser, roots["file"]) for _ in range(TABS)]
    for start in range(0, len(pages), TABS):
        batch = list(zip(readers, pages[start : start + TABS], strict=False))
        for reader, name in batch:
            reader.page.goto(reader.root + name, wait_until="commit")
        for reader, _ in batch:
            reader.settle()
    problems = [problem for reader in readers for problem in reader.problems]
    for reader in readers:
        reader.context.close()
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visits, scheme):
    assert not told(visits, scheme), "\n".join(told(visits, scheme)[:30])


def test_nothing_scrolls_sideways_on_a_phone(visits):
    wide = {name: visit.phone for name, visit in visits.items() if visit.phone > PHONE["width"]}
    assert not wide


def test_nothing_is_cut_off_on_paper(visits):
    assert not told(visits, "cut"), "\n".join(told(visits, "cut"))


def test_pages_are_light(visits):
    assert not {name: visit.weight for name, visit in visits.items() if visit.weight > 3e6}


def test_every_page_says_what_it_is_about(pages):
    written = [name for name in pages if name not in ("index.html", "genindex.html", "py-modindex.html", "search.html")]
    told = {name: Meta((HTML / name).read_text("utf-8")).content for name in written}
    assert not [name for name, meta in told.items() if len(meta.get("description", "")) < 40]
    assert len({meta["og:title"] for meta in told.values()}) == len(written)
    image = told["intro.html"]["og:image"].removeprefix("https://clipnb.github.io/clipnb/")
    assert (HTML / image).read_bytes().startswith(b"\x89PNG")


def test_every_page_says_how_to_cite_it(pages):
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    for name in set(pages) - {"index.html", "genindex.html", "py-modindex.html", "search.html"}:
        page = (HTML / name).read_text("utf-8")
        (text,) = re.findall(r'<details class="cite-page">.*?<pre>(.*?)</pre>', page, re.DOTALL)
        (entry,) = parse_string(unescape(text), "bibtex").entries.values()
        assert entry.fields["url"] == f"https://clipnb.github.io/clipnb/{name}"
        assert entry.fields["title"] in plain(re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)[1])
        assert entry.fields["howpublished"].endswith(f"version {about['version']}")
        assert [str(person) for person in entry.persons["author"]] == [f"{{{a['name']}}}" for a in about["authors"]]


def plain(html):
    """The words of a heading, without its tags."""
    return unescape(re.sub(r"<[^>]+>", "", html))


class Meta(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.content = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "meta":
            attributes = dict(attributes)
            self.content[attributes.get("name") or attributes.get("property")] = attributes.get("content")


# The rest


def test_the_browser_test_sees_a_request_to_another_host(browser, tmp_path):
    (tmp_path / "index.html").write_text('<img src="https://cdn.example/a.png"><script src="missing.js"></script>')
    with Reader(browser, tmp_path.as_uri() + "/") as reader:
        reader.open("index.html")
        assert any("another place: https://cdn.example/a.png" in p for p in reader.problems)
        assert any("missing.js" in p for p in reader.problems)


def figures_of(source, kind=""):
    """States of the live figures (of one kind) that a notebook's executed copy shows, in order."""
    notebook = json.loads((ROOT / "book/notebooks" / source.name).read_text("utf-8"))
    states = (
        notebook["metadata"].get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    )
    shown = [
        output["data"][VIEW]["model_id"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if VIEW in output.get("data", {})
    ]
    found = [states[model]["state"] for model in shown]
    return [state for state in found if state["_anywidget_id"].endswith(kind)]


def value(figure, name):
    return float(figure.locator(f'[data-name="{name}"]').first.get_attribute("data-value"))


def click(page, slider, share):
    """Press the mouse on a slider, at a share of its length."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


@pytest.fixture(scope="module")
def icons(model, book_vectors):
    """The icon set's vectors, and what the classifier of bare names makes of them."""
    data = clipnb.load_dataset("icons")
    images = clipnb.encode_images(model, data)
    classifier = clipnb.zero_shot_classifier(model, data.classnames)
    bare = clipnb.evaluate(images.vectors, classifier, images.labels, ks=range(1, 11))
    return SimpleNamespace(data=data, vectors=images.vectors, labels=images.labels, bare=bare)


@pytest.fixture
def chapter(browser, roots):
    """Open a chapter on a desktop: chapter(start of its name, kind) -> its page and its first such live figure."""
    with Reader(browser, roots["http"], viewport=DESKTOP) as reader:

        def open_chapter(start, kind=None):
            page = reader.open(
                next(f"notebooks/{source.stem}.html" for source in SOURCES if source.stem.startswith(start))
            )
            return page, page.locator(f'[data-figure="{kind}"]' if kind else ".clipnb-figure").first

        yield open_chapter
    assert not reader.problems, "\n".join(reader.problems)


def operate(page):
    """Every slider of every live figure by keyboard and by mouse: state, words and looks must change."""
    for figure in page.locator(".clipnb-figure").all():
        for slider in figure.locator("input[type=range]").all():
            slider.focus()
            page.keyboard.press("Home")
            state, words, look = (
                figure.get_attribute("data-state"),
                slider.get_attribute("aria-valuetext"),
                figure.screenshot(),
            )
            page.keyboard.press("ArrowRight")
            assert figure.get_attribute("data-state") != state, "the arrow key did not change the state"
            assert slider.get_attribute("aria-valuetext") != words, "a screen reader would not hear the change"
            assert figure.screenshot() != look, "the figure looks the same"
            page.keyboard.press("End")
            state = figure.get_attribute("data-state")
            click(page, slider, 0.1)
            assert figure.get_attribute("data-state") != state, "the mouse did not change the state"


@pytest.mark.parametrize("start", [source.stem[:2] for source in SOURCES if source.stem < "12"])
def test_live_figures_are_operated_by_keyboard_and_by_mouse(chapter, start):
    page, figure = chapter(start)
    assert figure.count(), "a chapter without a live figure"
    operate(page)


def test_a_live_figure_moves_in_a_page_opened_from_a_folder(browser, roots):
    with Reader(browser, roots["file"]) as reader:
        operate(reader.open(f"notebooks/{SOURCES[0].stem}.html"))
        assert not reader.problems, "\n".join(reader.problems)


def test_data_of_live_figures_is_small():
    sizes = {
        f"{source.stem}: {state['_anywidget_id']}": len(json.dumps(state["content"]))
        for source in SOURCES
        for state in figures_of(source)
    }
    assert len(sizes) >= 9 and max(sizes.values()) < MAX_BYTES


def test_recall_at_k_in_the_page_is_pythons(chapter, icons):
    _page, figure = chapter("01", "recall")
    slider = figure.locator("input[type=range]")
    slider.press("Home")
    for k in range(1, 11):
        assert value(figure, "recall") == pytest.approx(icons.bare.recall_at_k[k], abs=NEAR)
        assert f"{100 * value(figure, 'recall'):.1f}" in figure.locator('[data-name="recall"]').inner_text()
        assert value(figure, "lit") == figure.locator('.clipnb-picture[data-tone="yes"]').count()
        slider.press("ArrowRight")


def test_a_cell_of_the_confusion_matrix_opens_its_pictures(chapter, icons):
    page, figure = chapter("02", "confusion")
    names = figure.locator("tbody th").evaluate_all("nodes => nodes.map((node) => node.title)")[:-1]
    classes = [icons.data.classnames.index(name) for name in names]
    opened = 0
    for i, j in np.ndindex(len(classes), len(classes)):
        cell, count = figure.locator(f'[data-cell="{i},{j}"]'), int(icons.bare.confusion[classes[i], classes[j]])
        shown = cell.inner_text()
        assert abs((0 if shown == "·" else int(shown)) - count) <= 1
        if i != j and shown != "·" and opened < 4:
            opened += 1
            cell.click()
            said = figure.locator(".clipnb-picture").all_inner_texts()
            assert 0 < len(said) <= int(shown) and all(
                names[i] in text and f"predicted {names[j]}" in text for text in said
            )
            assert value(figure, "recall") == pytest.approx(icons.bare.per_class_accuracy[classes[i]], abs=0.09)
    assert opened, "no confusion to open"
    state = figure.get_attribute("data-state")
    page.keyboard.press("ArrowUp" if "cell=0," not in state else "ArrowDown")
    assert figure.get_attribute("data-state") != state


def test_pictures_enter_and_leave_with_the_threshold(chapter, model, icons):
    page, figure = chapter("03", "threshold")
    data = icons.data
    scores = icons.vectors @ clipnb.encode_texts(model, ["dog"])[0]
    dogs = icons.labels == data.classnames.index("dog")
    slider, dot = figure.locator("input[type=range]"), figure.locator("circle.dot")
    seen = []
    for share in (0.15, 0.35, 0.55, 0.75):
        click(page, slider, share)
        threshold = float(figure.get_attribute("data-state").removeprefix("threshold="))
        found = scores >= threshold
        for name, mask in {"tp": found & dogs, "fp": found & ~dogs, "fn": ~found & dogs, "tn": ~found & ~dogs}.items():
            assert abs(value(figure, name) - mask.sum()) <= 2
        assert value(figure, "precision") == value(figure, "tp") / (value(figure, "tp") + value(figure, "fp"))
        assert value(figure, "recall") == value(figure, "tp") / dogs.sum()
        shelves = [group.locator("img").count() for group in figure.locator(".clipnb-group").all()]
        seen.append(
            (shelves[0], sum(shelves), value(figure, "precision"), value(figure, "recall"), dot.get_attribute("cx"))
        )
    drawn, total, precision, recall, place = zip(*seen, strict=True)
    assert drawn[0] > drawn[-1] and list(drawn) == sorted(drawn, reverse=True) and len(set(total)) == 1
    assert precision[0] < precision[-1] and recall[0] > recall[-1] and len(set(place)) > 1


def test_the_accuracy_paradox_in_the_page_is_pythons(chapter):
    page, figure = chapter("04", "paradox")
    share, recall = figure.locator("input[type=range]").all()
    for at in (0.02, 0.5, 0.9):
        click(page, share, at)
        click(page, recall, 1 - at)
        state = dict(part.split("=") for part in figure.get_attribute("data-state").split(";"))
        numbers = widgets.ParadoxExplorer(
            rare_share=float(state["share"]), rare_recall=float(state["recall"])
        ).numbers()
        for name in ("accuracy", "baseline", "rare_recall", "macro"):
            assert value(figure, name) == numbers[name]


@pytest.mark.parametrize("start", ["05", "06"])
def test_the_classes_of_the_atlas_in_the_page_are_pythons(chapter, icons, start):
    _page, figure = chapter(start, "atlas")
    present = np.flatnonzero(np.isfinite(icons.bare.per_class_accuracy))
    figure.locator('input[type="checkbox"]').check()
    squares = figure.locator(".clipnb-square")
    classes = squares.evaluate_all("nodes => nodes.map((node) => +node.dataset.class)")
    assert sorted(classes) == present.tolist()
    fills = squares.evaluate_all(
        "nodes => nodes.map((node) => parseFloat(node.style.getPropertyValue('--fill')) / 100)"
    )
    expected = icons.bare.per_class_accuracy[classes]
    assert (np.abs(np.array(fills) - expected) > 1e-6).mean() < 0.02  # last bits may change an answer
    suspects = [c for c in margin.worst_first(icons.bare.cmm["pseudo_image"]) if c in present]
    for depth in (1, 20):
        figure.locator("input[type=range]").evaluate(
            "(node, depth) => { node.value = depth; node.dispatchEvent(new Event('input')); }", depth
        )
        flagged = figure.locator("[data-flagged]").evaluate_all("nodes => nodes.map((node) => +node.dataset.class)")
        assert len(flagged) == depth and len(set(flagged) - set(suspects[: depth + 2])) == 0
        assert value(figure, "flagged_mean") == pytest.approx(icons.bare.per_class_accuracy[flagged].mean(), abs=0.02)
    worst = classes[0] if start == "05" else suspects[0]
    figure.locator(f'.clipnb-square[data-class="{worst}"]').click()
    text = figure.locator(".clipnb-details").inner_text()
    assert icons.data.classnames[worst] in text and f"of {(icons.labels == worst).sum()} images right" in text
    assert figure.locator(".clipnb-details svg").count() >= 1


def test_a_threshold_on_two_sets_in_the_page_is_pythons(chapter, icons, model):
    page, figure = chapter("03", "transfer")
    validation = clipnb.load_dataset("icons:validation")
    vectors = clipnb.encode_images(model, validation).vectors
    animals = [c for c, name in enumerate(validation.classnames) if validation.groups.get(name) == "animals"]
    query = clipnb.encode_texts(model, ["animal"])[0]
    pairs = [
        (v @ query, np.isin(labels, animals))
        for v, labels in ((vectors, validation.labels), (icons.vectors, icons.labels))
    ]
    python = widgets.TransferExplorer(*pairs, name="animal", miss_cost=5)
    line = figure.locator("input[type=range]").first
    for share in (0.3, 0.6):
        click(page, line, share)
        state = dict(part.split("=") for part in figure.get_attribute("data-state").split(";"))
        python.threshold = float(state["threshold"])
        for part, cost in python.costs().items():
            assert value(figure, part) == pytest.approx(cost, abs=12)  # two images at the line, at a cost of five


def test_the_ensemble_in_the_page_is_as_accurate_as_pythons(chapter, icons, model):
    _page, figure = chapter("07", "prompts")
    figure.locator("input[type=range]").press("End")  # hot: nearly equal weights
    prompts = figures_of(next(source for source in SOURCES if source.stem.startswith("07")), "PromptWeightExplorer")[0]
    templates = [prompt["text"] for prompt in prompts["content"]["prompts"]]
    classifier = clipnb.zero_shot_classifier(model, icons.data.classnames, templates)
    accuracy = clipnb.evaluate(icons.vectors, classifier, icons.labels).accuracy
    assert value(figure, "uniform") == pytest.approx(accuracy, abs=NEAR)
    assert value(figure, "ensemble") == pytest.approx(accuracy, abs=0.01)


@pytest.mark.parametrize("start", [source.stem[:2] for source in SOURCES if source.stem < "10"])
def test_a_guess_of_each_chapter_is_answered_when_it_is_asked_for(chapter, start):
    _page, figure = chapter(start, "curve" if start == "05" else "number")
    measured = figure.locator('[data-name="mean"], [data-name="answer"]')
    assert measured.count() == 0, "the answer is shown before the guess"
    figure.locator("button").press("Enter")
    assert 0 < float(measured.first.get_attribute("data-value")) < 1
    assert figure.locator('[data-name="guess"], [data-name="guess_mean"]').first.is_visible()


@pytest.mark.parametrize("start", ["07", "08"])
def test_weights_of_prompts_in_the_page_are_pythons(chapter, start):
    page, figure = chapter(start, "prompts")
    source = next(source for source in SOURCES if source.stem.startswith(start))
    prompts = figures_of(source, "PromptWeightExplorer")[0]["content"]["prompts"]
    python = widgets.PromptWeightExplorer(
        [prompt["text"] for prompt in prompts], [prompt["score"] for prompt in prompts]
    )
    for at in (0.2, 0.5, 0.9):
        click(page, figure.locator("input[type=range]"), at)
        temperature = float(figure.get_attribute("data-state").removeprefix("temperature="))
        shown = figure.locator('[data-name="weight"]').evaluate_all("nodes => nodes.map((node) => +node.dataset.value)")
        assert shown == pytest.approx(sorted(python.weights(temperature), reverse=True)[: len(shown)])
        assert value(figure, "effective") == pytest.approx(python.effective_number(temperature))


# The book as a thing


def test_the_cover_shows_in_one_screen_what_the_book_finds(browser, roots, icons):
    with Reader(browser, roots["http"], viewport=DESKTOP) as reader:
        page = reader.open("intro.html")
        never = page.locator(".cover-picture .never").get_attribute("d").count("M")
        assert abs(never - int((icons.bare.per_class_accuracy == 0).sum())) <= 2
        assert f"{never} of {icons.bare.num_classes}" in page.locator("article").inner_text()
        for thing in (".cover-picture li", ".cover-findings .sd-card-title"):
            last = page.locator(thing).last.bounding_box()
            assert last["y"] + last["height"] <= DESKTOP["height"]


def test_on_paper_what_is_folded_is_open(chapter):
    page, figure = chapter("01", "recall")
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html[data-theme=dark]", state="attached")
    page.evaluate("addEventListener('beforeprint', () => { window.printed = document.documentElement.dataset.theme; })")
    folded = page.locator(f"{FOLDED}:not([open])").count()
    text = " ".join(
        "".join(sheet.extract_text() for sheet in PdfReader(io.BytesIO(page.pdf(format="A4"))).pages).split()
    )
    assert (
        folded
        and page.evaluate("window.printed") == "light"
        and page.locator("html").get_attribute("data-theme") == "dark"
    )
    assert page.locator(f"{FOLDED}:not([open])").count() == folded
    for line in page.locator(f"{FOLDED} pre").all_text_contents():
        assert "".join(line.split())[:60] in text.replace(" ", ""), line
    assert f"{100 * value(figure, 'recall'):.1f}" in text and "Guesses for this image" in text
    page.emulate_media(media="print")  # what sticks to the screen's edge would be printed over a page's edge
    assert figure.locator(".clipnb-details").evaluate("node => getComputedStyle(node).position") == "static"


def test_pages_become_one_pdf(pages, tmp_path):
    def prints(*names):
        return subprocess.run(
            [sys.executable, "-m", "tools.book.pdf", *names, "--out", tmp_path / "some.pdf"],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    done = prints("notebooks/04_pitfalls", "handout", "intro")
    assert done.returncode == 0, done.stderr
    printed = PdfReader(tmp_path / "some.pdf")
    starts = {mark.title: printed.get_destination_page_number(mark) for mark in printed.outline}
    cover, handout, chapter = starts.values()
    assert (
        "Handout" in starts and cover == 0 and chapter - handout == 1 + len(SOURCES)
    )  # in the book's order; a chapter is one sheet
    text = [sheet.extract_text() for sheet in printed.pages]
    assert "never recognised" in " ".join(text[0].split()) and "mean of the two" in " ".join(
        "".join(text[chapter:]).split()
    )
    targets = {
        note["/A"]["/URI"]
        for sheet in printed.pages
        for note in map(IndirectObject.get_object, sheet.get("/Annots", []))
        if "/URI" in note.get("/A", {})
    }
    assert not [target for target in targets if not target.startswith("http")]
    refused = prints("nowhere")
    assert refused.returncode == 2 and all(
        name.removesuffix(".html") in refused.stderr
        for name in pages
        if name not in ("index.html", "genindex.html", "py-modindex.html", "search.html")
    )


def test_every_figure_is_listed_with_its_command():
    page = Links((HTML / "figures.html").read_text("utf-8"))
    for source in SOURCES:
        notebook = json.loads(source.read_text("utf-8"))
        names = [cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") for cell in notebook["cells"]]
        for name in filter(None, names):
            assert f"notebooks/{source.stem}.html#{name}" in page.links
            assert f"run_notebooks {source.stem[:2]}" in page.text


def test_the_handout_asks_every_question_and_answers_none():
    page = (HTML / "handout.html").read_text("utf-8")
    assert page.count('<figure class="sheet">') == len(SOURCES)
    for source in SOURCES:
        text = "".join("".join(cell["source"]) for cell in json.loads(source.read_text("utf-8"))["cells"])
        asked = re.findall(r'<p id="quiz[^>]*>(.*?)</p>', text, re.DOTALL)
        assert asked and all(f'<p class="question">{question}</p>' in page for question in asked)
        for answer in re.findall(r"\*\*(?:Right|No)\.\*\* ([^*`$.]{20,})", text):
            assert answer not in page


def test_chapters_lead_to_the_next_and_back():
    for before, after in itertools.pairwise(SOURCES):
        assert (
            f"{after.stem}.html"
            in Links((HTML / f"notebooks/{before.stem}.html").read_text("utf-8")).classed["right-next"]
        )
        assert (
            f"{before.stem}.html"
            in Links((HTML / f"notebooks/{after.stem}.html").read_text("utf-8")).classed["left-prev"]
        )


def test_search_finds_pages(reader):
    page = reader.open("search.html?q=margin")
    page.locator("#search-results li a").first.wait_for()
    page.locator("#search-results li a").first.click()
    assert "search.html" not in page.url
    assert not reader.problems, "\n".join(reader.problems)


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.classed, self.text = [], set(), {}, ""
        self.feed(text)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if tag in ("a", "link", "img", "script"):
            self.links += [attributes[key] for key in ("href", "src") if attributes.get(key)]
            self.classed |= {
                kind: attributes["href"] for kind in (attributes.get("class") or "").split() if "href" in attributes
            }


def test_every_link_inside_the_book_leads_somewhere(pages):
    parsed = {name: Links((HTML / name).read_text("utf-8")) for name in pages}
    broken = []
    for name, page in parsed.items():
        for link in page.links:
            address, fragment = urldefrag(link)
            if urlsplit(address).scheme or address.startswith("//"):
                continue
            target = (
                ((HTML / name).parent / unquote(urlsplit(address).path)).resolve()
                if address
                else (HTML / name).resolve()
            )
            if not target.exists():
                broken.append(f"{name}: {link}")
            elif fragment and target.suffix == ".html":
                other = parsed[target.relative_to(HTML.resolve()).as_posix()]
                if unquote(fragment) not in other.ids:
                    broken.append(f"{name}: {link} (no such place on that page)")
    assert not broken, "\n".join(broken)


def test_launch_buttons_open_the_sources():
    assert SOURCES, "there are no notebooks"
    for source in SOURCES:
        links = Links((HTML / f"notebooks/{source.stem}.html").read_text("utf-8")).links
        path = f"notebooks/{source.name}"
        assert f"https://colab.research.google.com/github/clipnb/clipnb/blob/main/{path}" in links
        assert f"https://mybinder.org/v2/gh/clipnb/clipnb/main?urlpath=lab/tree/{path}" in links
