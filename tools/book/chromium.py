"""Find a Chromium for the browser tests, or install one: from apt when root on Debian, else through Playwright."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# no sandbox: containers run as root; the rest keeps the browser itself from calling anyone
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def find() -> str | None:
    """Path of the machine's Chromium, else of the one that Playwright has installed."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def install() -> None:
    """Try the ways there are; success is what find() sees afterwards."""
    print("Installing Chromium for the browser tests ...", flush=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update"], **quiet)
        # on Ubuntu the package is a stub that needs snap; then Playwright's turn comes
        subprocess.run(["apt-get", "install", "-y", "chromium"], env=environment, **quiet)
    if not find():
        subprocess.run([sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"], **quiet)


if __name__ == "__main__":
    if not find():
        install()
    if not find():
        sys.exit(
            "No Chromium for the browser tests: install the package `chromium` or Google Chrome, then run `make "
            "test` again."
        )
