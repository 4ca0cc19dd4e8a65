"""The built book in a real browser, with every other host out of reach: over http and from file://."""

import functools
import http.server
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build/html"
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
LESSONS = [source.stem for source in SOURCES if source.stem < "05"]
PHONE = {"width": 390, "height": 844}


# The site, the browser, and a page that takes notes --------------------------------------------------------------------

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

    def open(self, name, idle=True):
        self.page.goto(self.root + name)
        if idle:  # nothing was asked for during half a second
            self.page.wait_for_load_state("networkidle")
        # a live figure is drawn once its script is loaded
        self.page.wait_for_function(
            """() => [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')]
                     .every(s => s.parentElement.querySelector('.widget-subarea, .jupyter-widgets, .lm-Widget, .jp-OutputArea'))""",
            timeout=20_000,
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


# What must hold --------------------------------------------------------------------------------------------------------

def test_every_page_opens_with_no_other_host(reader, pages):
    for name in pages:
        reader.open(name)
    assert not reader.problems, "\n".join(reader.problems)


def test_the_browser_test_sees_a_request_to_another_host(browser, tmp_path):
    (tmp_path / "index.html").write_text('<img src="https://cdn.example/a.png"><script src="missing.js"></script>')
    with Reader(browser, tmp_path.as_uri() + "/") as reader:
        reader.open("index.html")
        assert any("another place: https://cdn.example/a.png" in p for p in reader.problems)
        assert any("missing.js" in p for p in reader.problems)


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_has_a_live_figure_that_moves(reader, lesson):
    page = reader.open(f"notebooks/{lesson}.html")
    page.locator(".clipnb-figure input[type=range]").first.wait_for()
    for figure in page.locator(".clipnb-figure").all():
        for slider in figure.locator("input[type=range]").all():
            state, look = figure.get_attribute("data-state"), figure.screenshot()
            at_end = slider.evaluate("s => +s.value >= +s.max")
            slider.press("ArrowLeft" if at_end else "ArrowRight")
            assert figure.get_attribute("data-state") != state, "the figure's state did not change"
            assert figure.screenshot() != look, "the figure looks the same"
    assert not reader.problems, "\n".join(reader.problems)


def test_search_finds_pages(reader):
    page = reader.open("search.html?q=margin")
    page.locator("#search-results li a").first.wait_for()
    page.locator("#search-results li a").first.click()
    assert "search.html" not in page.url
    assert not reader.problems, "\n".join(reader.problems)


def test_nothing_scrolls_sideways_on_a_phone(browser, roots, pages):
    wide = []
    with Reader(browser, roots["http"], viewport=PHONE) as reader:
        for name in pages:
            width = reader.open(name, idle=False).evaluate("document.documentElement.scrollWidth")
            if width > PHONE["width"]:
                wide.append(f"{name}: {width} px")
    assert not wide, "\n".join(wide)


# contrast as WCAG 2 defines it, of the text of each element on the nearest opaque background
CONTRAST = """(elements) => {
  const rgba = text => { const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    c.fillStyle = text; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
    if (c[3] > 250) return c; } return [255, 255, 255, 255]; };
  return elements.map(e => { const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), e.textContent.trim().slice(0, 40)]; });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(browser, roots, scheme):
    text = "article :is(p, li, td, th, dt, summary), .jupyter-widgets label, .clipnb-figure :is(p, dt, dd, label, span)"
    faint = []
    with Reader(browser, roots["http"], color_scheme=scheme) as reader:
        for name in ["intro.html", "install.html", "glossary.html", "status.html", *(f"notebooks/{s.stem}.html" for s in SOURCES)]:
            page = reader.open(name)
            assert page.locator("html").get_attribute("data-theme") == scheme
            found = page.locator(text).locator("visible=true").evaluate_all(CONTRAST)
            faint += [f"{name}: {ratio:.1f}:1 at {words!r}" for ratio, words in found if words and ratio < 4.5]
    assert not faint, "\n".join(faint[:20])


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if tag in ("a", "link", "img", "script"):
            self.links += [attributes[key] for key in ("href", "src") if attributes.get(key)]


def test_every_link_inside_the_book_leads_somewhere(pages):
    parsed = {name: Links((HTML / name).read_text("utf-8")) for name in pages}
    broken = []
    for name, page in parsed.items():
        for link in page.links:
            address, fragment = urldefrag(link)
            if urlsplit(address).scheme or address.startswith("//"):
                continue
            target = ((HTML / name).parent / unquote(urlsplit(address).path)).resolve() if address else (HTML / name).resolve()
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
