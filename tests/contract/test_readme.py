"""What the README shows was computed: its table is rebuilt here and compared."""

import re
from pathlib import Path

from tools.release.readme_table import table

README = Path(__file__).parents[2] / "README.md"


def test_the_result_table_is_the_one_that_evaluate_gives():
    shown = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", README.read_text("utf-8"), re.S).group(1)
    assert shown.strip() == table().strip()
