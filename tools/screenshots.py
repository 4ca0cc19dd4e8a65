"""Take the README's pictures of the built book: a page in light and in dark mode, and on a phone.

    python tools/screenshots.py                       # into docs/
    python tools/screenshots.py intro 05_worst_categories --out /tmp/pictures
"""

import argparse
from pathlib import Path

import chromium
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build/html"
VIEWS = {  # name: (width, height, colour scheme)
    "light": (1280, 800, "light"),
    "dark": (1280, 800, "dark"),
    "phone": (390, 844, "light"),
}


def find_page(name: str) -> Path:
    matches = [p for p in HTML.rglob("*.html") if p.stem.startswith(name)]
    if not matches:
        raise SystemExit(f"No page named {name!r} in {HTML}; run `make book` first.")
    return sorted(matches)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", default=["intro", "05_worst_categories"], help="names of pages, or their beginnings")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--scroll-to", help="CSS selector of what to show; default: the top of the page")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        for name in args.pages:
            for view, (width, height, scheme) in VIEWS.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(find_page(name).as_uri())
                page.wait_for_load_state("networkidle")
                if args.scroll_to:
                    page.locator(args.scroll_to).first.scroll_into_view_if_needed()
                page.wait_for_timeout(500)  # live figures draw, fonts settle
                page.screenshot(path=args.out / f"{name}-{view}.png")
                page.close()


if __name__ == "__main__":
    main()
