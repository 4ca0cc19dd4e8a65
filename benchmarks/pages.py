"""How soon each page of the built book shows its first content, from a local server: the best of three visits.

    python -m benchmarks.pages        # after `make book`; writes benchmarks/results/pages.json and .md

Exit code 1: a page took more than two seconds.
"""

from __future__ import annotations

import functools
import http.server
import statistics
import sys
import threading

from playwright.sync_api import sync_playwright

from benchmarks._harness import ROOT, machine, machine_text, publish
from tools.book import chromium

HTML = ROOT / "_build/html"
FIRST_CONTENT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
SLOWEST = 2.0  # seconds


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def run() -> dict:
    """Seconds to the first content of every page."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        page = browser.new_page()

        def visit(name: str) -> float:
            page.goto(f"http://127.0.0.1:{server.server_port}/{name}", wait_until="networkidle")
            return page.evaluate(FIRST_CONTENT) / 1000

        seconds = {name: min(visit(name) for _ in range(3)) for name in names}
        browser.close()
    server.shutdown()
    return {"machine": machine(("playwright",)), "seconds": seconds}


def table(results: dict) -> str:
    """The result as Markdown."""
    seconds = results["seconds"]
    slowest = max(seconds, key=seconds.get)
    median = statistics.median(seconds.values())
    machine_line = machine_text(results)
    return (
        f"First content of {len(seconds)} pages from a local server, best of three visits: median {median:.2f} s, "
        f"slowest {seconds[slowest]:.2f} s (`{slowest}`).\n\n{machine_line}.\n"
    )


if __name__ == "__main__":
    results = run()
    publish("pages", results, table(results))
    sys.exit(max(results["seconds"].values()) > SLOWEST)
