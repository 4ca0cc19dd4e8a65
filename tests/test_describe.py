import json
import re

import pytest

from clipnb.describe import QUERY, load_descriptions, query
from clipnb.errors import InputError


def test_the_query_names_class_rivals_and_count():
    text = query("{odd} \"name\"", ["ferry", "motor {boat}"], count=7)
    assert '"{odd} "name""' in text and "ferry, motor {boat}" in text and "Write 7 short" in text
    assert "mistaken for: nothing in particular." in query("dog", [])
    assert query("dog", ["cat"]) == QUERY.format(classname="dog", rivals="cat", count=5)


def test_a_file_is_read_back(tmp_path):
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"provenance": {"model": "m"}, "classes": {"犬": ["a dog"], "cat": ["a cat", "a {cat}"]}}), "utf-8")
    found = load_descriptions(path)
    assert found.by_class == {"犬": ["a dog"], "cat": ["a cat", "a {cat}"]} and found.provenance == {"model": "m"}


@pytest.mark.parametrize(("content", "text"), [
    ("{", "Cannot read {path} as JSON: "),
    (b"\xff\xfe\x00", "Cannot read {path} as JSON: "),
    ("[]", 'Expected {path} to hold {"classes": {classname: [description, ...]}}'),
    ('{"classes": {}}', 'Expected {path} to hold {"classes": {classname: [description, ...]}}'),
    ('{"classes": {"dog": []}}', "Expected a list of non-empty strings for class 'dog' in {path}"),
    ('{"classes": {"dog": "a dog"}}', "Expected a list of non-empty strings for class 'dog' in {path}"),
    ('{"classes": {"dog": [" "]}}', "Expected a list of non-empty strings for class 'dog' in {path}"),
    ('{"classes": {"dog": [1]}}', "Expected a list of non-empty strings for class 'dog' in {path}"),
])
def test_a_wrong_file_is_told(tmp_path, content, text):
    path = tmp_path / "d.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match="^" + re.escape(text.replace("{path}", str(path)))):
        load_descriptions(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match=re.escape("Expected 'emoji' or a JSON file of descriptions, got no.json: No such file")):
        load_descriptions("no.json")
    with pytest.raises(InputError, match="Is a directory"):
        load_descriptions(tmp_path)


def test_the_shipped_descriptions_are_of_the_emoji_set():
    from clipnb import load_dataset

    found, classnames = load_descriptions(), load_dataset("emoji").classnames
    assert set(found.by_class) <= set(classnames)
    assert all(len(set(texts)) == len(texts) >= 5 for texts in found.by_class.values())
    assert found.provenance
