"""A browser for the tests of pages and live figures."""

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
