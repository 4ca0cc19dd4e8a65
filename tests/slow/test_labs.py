"""The model in the page: equal to Python's, and the two labs in a browser, from a folder, with the network off."""

import base64
import gzip
import itertools
import re
import shutil

import numpy as np
import pytest
from axe_playwright_python.base import AXE_SCRIPT

import clipnb
from clipnb.intervals import paired_difference
from clipnb.similarity import unit_norm
from tests.support.doodles import HOUSE
from tests.support.labs import (
    VENDOR,
    draw,
    encoded,
    images_in_page,
    images_in_python,
    large_images,
    lay_out,
    odd_strings,
    texts_in_page,
    tokens_in_page,
    tokens_in_python,
)
from tests.support.shared import PATIENCE

NEAR = 1e-5  # of a similarity: float32 sums in another order
LEVELS = 2  # the browser blends transparent pixels with one rounding more


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with a page for each lab, under a strict policy, built from the same parts as the book's."""
    folder = tmp_path_factory.mktemp("site")
    lay_out(folder)
    return folder


@pytest.fixture
def open_page(browser, site):
    """Open a lab's page in a browser without a network: open_page("draw") -> page; fails on any error in it."""
    contexts, problems = [], []

    def opened(name, init=None, folder=site, **options):
        context = browser.new_context(offline=True, **options)
        context.set_default_timeout(1000 * PATIENCE)
        contexts.append(context)
        if init:
            context.add_init_script(init)
        page = context.new_page()
        page.on(
            "request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or problems.append(f"request: {r.url}")
        )
        page.on("pageerror", lambda e: problems.append(f"page error: {e}"))
        page.on("console", lambda m: m.type == "error" and problems.append(f"console error: {m.text}"))
        page.goto((folder / f"{name}.html").as_uri())
        return page

    opened.problems = problems
    yield opened
    for context in contexts:
        context.close()
    assert not problems, "\n".join(problems)


def started(page, name):
    page.locator(f"#{name}-lab [data-lab-start]").click()
    page.locator(f"#{name}-lab[data-lab-ready]").wait_for()
    return page.locator(f"#{name}-lab")


# ---- Equal to Python -----------------------------------------------------------------------------------------------


def test_tokens_of_odd_strings_are_pythons(open_page, model):
    texts = [*odd_strings(1000), *clipnb.load_dataset("icons:validation").classnames, "", " "]
    found, expected = tokens_in_page(open_page("prompt"), texts), tokens_in_python(model, texts)
    unequal = [(text, a, b) for text, a, b in zip(texts, found, expected, strict=True) if a != b]
    assert not unequal, unequal[:5]


def test_text_vectors_are_pythons(open_page, model):
    data = clipnb.load_dataset("icons:validation")
    texts = [
        *data.classnames,
        *(text for texts in clipnb.describe.load_descriptions("icons").by_class.values() for text in texts[:1]),
    ]
    found = texts_in_page(open_page("prompt"), texts)
    expected = clipnb.encode_texts(model, texts)
    assert np.abs(found - expected).max() < NEAR
    images = clipnb.encode_images(model, data.take(range(0, len(data), 5))).vectors
    page_answers, answers = (
        (images @ vectors[: len(data.classnames)].T).argmax(axis=1) for vectors in (found, expected)
    )
    assert (page_answers == answers).mean() >= 0.995


def test_drawings_give_pythons_pixels_and_answers(open_page, model):
    data = clipnb.load_dataset("icons:validation")
    images = [data[i][0] for i in range(0, len(data), 12)]
    pixels, vectors = images_in_page(open_page("draw"), [encoded(image, "PNG") for image in images])
    expected_pixels, expected = images_in_python(model, images)
    assert np.array_equal(pixels, expected_pixels)
    assert np.abs(vectors - expected).max() < NEAR
    classifier = clipnb.zero_shot_classifier(model, data.classnames)
    assert ((vectors @ classifier.T).argmax(axis=1) == (expected @ classifier.T).argmax(axis=1)).mean() >= 0.995


def test_large_images_give_pythons_pixels_within_two_levels(open_page, model):
    data = clipnb.load_dataset("icons:validation")
    images = large_images(data, 120)
    pixels, vectors = images_in_page(open_page("draw"), [encoded(image, "PNG") for image in images])
    expected_pixels, expected = images_in_python(model, images)
    assert np.abs(pixels.astype(int) - expected_pixels).max() <= LEVELS
    classifier = clipnb.zero_shot_classifier(model, data.classnames)
    assert ((vectors @ classifier.T).argmax(axis=1) == (expected @ classifier.T).argmax(axis=1)).mean() >= 0.995
    assert (1 - (vectors * expected).sum(axis=1)).max() < 1e-3


# ---- The draw lab --------------------------------------------------------------------------------------------------


# what a browser does when a file is pasted into the page, or dropped on the canvas
GIVE = """([way, content, name]) => {
  const given = new DataTransfer();
  given.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
  const paste = new ClipboardEvent("paste", { clipboardData: given, cancelable: true });
  const drop = new DragEvent("drop", { dataTransfer: given, cancelable: true });
  if (way === "paste") document.dispatchEvent(paste);
  else document.querySelector("[data-lab-canvas]").dispatchEvent(drop);
}"""


def spoken(lab, pattern):
    """Wait until the lab has told a screen reader what the pattern says."""
    lab.locator("[data-lab-status]", has_text=re.compile(pattern)).wait_for()


def test_a_house_drawn_with_the_mouse_is_a_house(open_page):
    page = open_page("draw")
    lab = started(page, "draw")
    assert not lab.locator(".lab-still").is_visible(), "the still figure lies over the live one"
    assert lab.locator("[data-lab-result]").count() == 0, "a blank canvas was scored"
    draw(page, HOUSE)
    spoken(lab, "Most similar: .*home")
    answers = lab.locator("[data-lab-result]")
    assert answers.count() == 5
    assert any("house" in text for text in answers.all_inner_texts())
    lab.locator("[data-lab-class]").select_option(label="home")
    assert re.search(
        r"“home” is at rank [1-5] of 294: .* a hit for Recall@5", lab.locator("[data-lab-rank]").inner_text()
    )
    for _ in HOUSE:
        lab.locator("[data-lab-undo]").click()
    spoken(lab, "blank")
    assert answers.count() == 0


def test_the_draw_lab_gives_pythons_similarities_and_takes_own_names(open_page, model):
    data = clipnb.load_dataset("icons:validation")
    page = open_page("draw")
    lab = started(page, "draw")
    image = data[3][0]
    file = {"name": "drawing.png", "mimeType": "image/png", "buffer": encoded(image, "PNG")}
    lab.locator("[data-lab-file]").set_input_files(file)
    spoken(lab, "Most similar")
    lab.locator("[data-lab-text]").click()
    lab.locator("[data-lab-own] input").fill("two small drawings on a wall")
    lab.locator("[data-lab-own] input").press("Enter")
    lab.locator(".lab-own li").wait_for()
    names = [*data.classnames, "two small drawings on a wall"]
    similarity = images_in_python(model, [image])[1] @ clipnb.encode_texts(model, names).T
    best = np.argsort(-similarity[0], kind="stable")[:5]
    spoken(lab, re.escape(names[best[-1]]))
    found = {
        row.get_attribute("data-name"): float(row.get_attribute("data-value"))
        for row in lab.locator("[data-lab-result]").all()
    }
    assert list(found) == [names[c] for c in best]
    assert np.allclose(
        list(found.values()), similarity[0, best], atol=2e-3
    )  # shipped class vectors are in half precision
    lab.locator("[data-lab-class]").select_option(label="two small drawings on a wall (yours)")
    rank = int((similarity[0] > similarity[0, -1]).sum()) + 1
    assert f"is at rank {rank} of {len(names)}:" in lab.locator("[data-lab-rank]").inner_text()
    lab.locator(".lab-own button").click()
    assert lab.locator("[data-lab-class] option", has_text="(yours)").count() == 0
    lab.locator("[data-lab-file]").set_input_files({**file, "buffer": b"not an image"})
    spoken(lab, "could not be read")


def test_a_name_that_looks_like_markup_stays_a_name(open_page):
    page = open_page("draw")
    lab = started(page, "draw")
    lab.locator("[data-lab-example]").first.click()
    lab.locator("[data-lab-text]").click()
    name = "<img src=x onerror=alert(1)>"
    lab.locator("[data-lab-own] input").fill(name)
    lab.locator("[data-lab-own] input").press("Enter")
    lab.locator(".lab-own li", has_text=name).wait_for()
    assert lab.locator("img[src=x]").count() == 0
    lab.locator("[data-lab-own] input").fill(name)
    lab.locator("[data-lab-own] input").press("Enter")
    spoken(lab, "in the list already")


def test_a_house_drawn_with_a_finger_on_a_phone_is_a_house(open_page):
    page = open_page("draw", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    lab = started(page, "draw")
    canvas = page.locator("[data-lab-canvas]")
    canvas.scroll_into_view_if_needed()
    box, top = canvas.bounding_box(), page.evaluate("scrollY")
    scale = box["width"] / 280
    finger = page.context.new_cdp_session(page)

    def touch(kind, *points):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    for stroke in HOUSE:
        places = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in stroke]
        touch("touchStart", places[0])
        for (x0, y0), (x1, y1) in itertools.pairwise(places):
            for step in range(1, 6):
                touch("touchMove", (x0 + (x1 - x0) * step / 5, y0 + (y1 - y0) * step / 5))
        touch("touchEnd")
    spoken(lab, "Most similar: .*home")
    assert page.evaluate("scrollY") == top, "drawing scrolled the page"


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_an_image_is_pasted_and_dropped(open_page, model, way):
    data = clipnb.load_dataset("icons:validation")
    image = data[3][0]
    page = open_page("draw")
    lab = started(page, "draw")
    page.evaluate(GIVE, [way, base64.b64encode(encoded(image, "PNG")).decode(), "image.png"])
    spoken(lab, "Most similar")
    similarity = images_in_python(model, [image])[1] @ clipnb.encode_texts(model, data.classnames).T
    assert lab.locator("[data-lab-result]").first.get_attribute("data-name") == data.classnames[similarity.argmax()]
    page.evaluate(GIVE, [way, base64.b64encode(b"words").decode(), "words.txt"])
    spoken(lab, "could not be read")
    assert lab.locator("[data-lab-result]").count() == 5, "a file that is no image took the answers away"


def test_the_draw_lab_works_by_keyboard(open_page):
    page = open_page("draw")
    lab = page.locator("#draw-lab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#draw-lab[data-lab-ready]").wait_for()
    for _ in range(20):
        if page.evaluate("document.activeElement.dataset.labExample") == "umbrella":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    spoken(lab, "Most similar")
    assert lab.locator("[data-lab-result]").count() == 5
    lab.locator("[data-lab-clear]").press("Enter")
    spoken(lab, "blank")


# ---- The prompt lab ------------------------------------------------------------------------------------------------


def shipped_vectors(name):
    """(N, 256) unit-norm vectors of a file that the page loads."""
    script = (VENDOR / f"lab/{name}-vectors.js").read_text()
    packed = gzip.decompress(base64.b64decode(re.search('= "(.*)"', script)[1]))
    return np.frombuffer(packed, "<f2").reshape(-1, 256).astype(np.float32)


@pytest.mark.parametrize("name, split", [("validation", "icons:validation"), ("test", "icons")])
def test_the_shipped_vectors_are_those_of_the_images(model, site, name, split):
    data, shipped = clipnb.load_dataset(split), shipped_vectors(name)
    assert len(shipped) == len(data)
    rows = np.arange(0, len(data), len(data) // 100)
    assert np.abs(clipnb.encode_images(model, data.take(rows)).vectors - shipped[rows]).max() < 2e-4  # half precision


def python_effect(model, split, vectors, name, texts):
    """What the lab shows, from clipnb: images of the class right, its margin, accuracy, and the paired interval."""
    data = clipnb.load_dataset(split)
    c = data.classnames.index(name)
    before = clipnb.zero_shot_classifier(model, data.classnames)
    after = before.copy()
    after[c] = unit_norm(clipnb.encode_texts(model, texts).mean(axis=0, keepdims=True))[0]
    results = [clipnb.evaluate(vectors, classifier, data.labels) for classifier in (before, after)]
    right = [result.predictions == data.labels for result in results]
    return {
        "own": [int((hits & (data.labels == c)).sum()) for hits in right],
        "all": [int(hits.sum()) for hits in right],
        "margin": [result.cmm["image"][c] for result in results],
        "all-change": list(paired_difference(right[1], right[0])),
        "own-change": list(paired_difference(right[1][data.labels == c], right[0][data.labels == c])),
    }


def shown_effect(lab):
    def values(name, *keys):
        tile = lab.locator(f'[data-name="{name}"]')
        return [float(tile.get_attribute(f"data-{key}")) for key in keys]

    interval = ("value", "low", "high")
    return {name: values(name, "before", "after") for name in ("own", "all", "margin")} | {
        name: values(name, *interval) for name in ("own-change", "all-change")
    }


def wording(page, lab, text):
    lab.locator("[data-lab-texts]").fill(text)
    page.locator(f"#prompt-lab[data-lab-shown={text!r}]").wait_for()


def test_the_prompt_lab_gives_pythons_numbers_on_validation_and_once_on_test(open_page, model):
    page = open_page("prompt")
    lab = started(page, "prompt")
    option = lab.locator("[data-lab-class] option").first
    name = option.inner_text().partition(" (")[0]
    wording(page, lab, f"{name}, drawn with a few bold lines")
    texts = [f"{name}, drawn with a few bold lines"]
    shown = shown_effect(lab)
    expected = python_effect(model, "icons:validation", shipped_vectors("validation"), name, texts)
    for key, values in expected.items():
        assert shown[key] == pytest.approx(values, abs=1e-4), key
    lab.locator("[data-lab-test]").click()
    row = lab.locator('[data-set="test"]')
    row.wait_for()
    on_test = python_effect(model, "icons", shipped_vectors("test"), name, texts)
    assert [int(row.get_attribute(f"data-{key}")) for key in ("before", "after")] == on_test["own"]
    assert float(row.get_attribute("data-all")) == pytest.approx(on_test["all-change"][0], abs=1e-4)
    assert lab.locator("[data-lab-test]").is_disabled(), "test can be scored a second time"


def test_the_prompt_lab_works_by_keyboard(open_page):
    page = open_page("prompt")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#prompt-lab[data-lab-ready]").wait_for()
    lab = page.locator("#prompt-lab")
    assert page.evaluate("document.activeElement.matches('[data-lab-class]')")
    lab.locator("[data-lab-class]").select_option(index=2)
    for kind in ("bare", "keywords", "descriptions", "nameless", "words", "letters"):
        button = lab.locator(f'[data-lab-fill="{kind}"]')
        lab.locator("[data-lab-texts]").fill("")
        button.press("Enter")
        assert lab.locator("[data-lab-texts]").input_value()
        lab.locator('[data-name="own"]').wait_for()
    wording(page, lab, "a thing")
    assert re.search("tried [2-9] wordings", lab.locator("[data-lab-tries]").inner_text())


# ---- Both ----------------------------------------------------------------------------------------------------------

SERIOUS = """async () => (await axe.run({preload: false})).violations
  .filter(({ impact }) => ["serious", "critical"].includes(impact))
  .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)} (${node.failureSummary})`))"""


OUTSIDE = """(lab) => [...lab.querySelectorAll("*")].filter((node) =>
  node.checkVisibility() && node.getBoundingClientRect().right > lab.getBoundingClientRect().right)
  .map((node) => node.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("name", ["draw", "prompt"])
def test_labs_are_accessible_and_fit_a_phone(open_page, name):
    page = open_page(name, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    lab = started(page, name)
    if name == "draw":
        lab.locator("[data-lab-example]").first.click()
        spoken(lab, "Most similar")
        lab.locator("[data-lab-text]").click()
        lab.locator("[data-lab-own] input").fill("a small house with a pointed roof and smoke over its chimney")
        lab.locator("[data-lab-own] input").press("Enter")
        lab.locator(".lab-own li").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not lab.evaluate(OUTSIDE)
    page.evaluate(AXE_SCRIPT)
    for theme in ("light", "dark"):
        page.evaluate("(theme) => { document.documentElement.dataset.theme = theme }", theme)
        assert not page.evaluate(SERIOUS)


@pytest.mark.parametrize("name", ["draw", "prompt"])
def test_without_webassembly_the_figure_stays(open_page, name):
    page = open_page(name, init="delete window.WebAssembly")
    lab = page.locator(f"#{name}-lab")
    spoken(lab, "cannot run the model")
    assert lab.locator(".lab-still").is_visible() and not lab.locator("[data-lab-start]").is_visible()


@pytest.mark.parametrize("name", ["draw", "prompt"])
def test_a_page_loads_little_until_the_button_is_pressed_and_names_the_size(open_page, site, name):
    page = open_page(name)
    before, loaded = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)"), []
    assert not [address for address in before if "/lab/" in address or "/vendor/" in address]
    page.on("request", lambda r: loaded.append(r.url))
    lab = page.locator(f"#{name}-lab")
    promised = int(re.search(r"\((\d+) MB\)", lab.locator("[data-lab-start]").inner_text())[1])
    started(page, name)
    files = [site / address.partition(site.as_uri() + "/")[2] for address in loaded if address.startswith("file:")]
    assert sum(file.stat().st_size for file in files) / 1e6 == pytest.approx(promised, abs=1)


def test_a_missing_file_is_reported_and_the_button_works_again(open_page, site, tmp_path):
    folder = shutil.copytree(site, tmp_path / "site", symlinks=True)
    lab = folder / "_static/lab"
    lab.unlink()
    lab.mkdir()
    for file in (VENDOR / "lab").iterdir():
        if file.name != "image-tower.js":
            (lab / file.name).symlink_to(file)
    page = open_page("draw", folder=folder)
    page.locator("[data-lab-start]").click()
    spoken(page.locator("#draw-lab"), "did not work: The file lab/image-tower.js could not be loaded")
    assert open_page.problems, "the browser did not report the missing file"
    open_page.problems.clear()
    (lab / "image-tower.js").symlink_to(VENDOR / "lab/image-tower.js")
    started(page, "draw")
