"""What the README shows was computed: its table is rebuilt here and compared."""

import re
from pathlib import Path

from tests.support.shared import BOOK_CACHE
from tools.release.readme_table import table

README = Path(__file__).parents[2] / "README.md"


def test_the_result_table_is_the_one_that_evaluate_gives(monkeypatch):
    monkeypatch.setenv("CLIPNB_CACHE", BOOK_CACHE)
    shown = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", README.read_text("utf-8"), re.S).group(1)
    assert shown.strip() == table().strip()
