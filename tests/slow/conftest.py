"""A browser for the tests of pages and live figures, and the environment of kernels that run whole chapters."""

import os

import pytest
from playwright.sync_api import sync_playwright

from tools.book import chromium


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    executable = chromium.find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=chromium.ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def keeping(tmp_path_factory):
    """Environment in which the vectors of one chapter are kept for the next, as they are for a reader.

    One thread each, since two test files run at a time, and threads that wait for each other take minutes.
    """
    return os.environ | {
        "CLIPNB_CACHE": str(tmp_path_factory.mktemp("cache")),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
