"""A browser for the tests of pages and live figures, and the environment of kernels that run whole chapters."""

import os

import pytest
from playwright.sync_api import sync_playwright

from tests.support.shared import BOOK_CACHE
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
def keeping():
    """Environment in which the vectors that the book's chapters encoded are read from its cache.

    One thread each, since two test files run at a time, and threads that wait for each other take minutes.
    """
    return os.environ | {
        "CLIPNB_CACHE": BOOK_CACHE,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def book_vectors():
    """Vectors that the book's chapters encoded are read from its cache in this process, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPNB_CACHE", BOOK_CACHE)
        yield
