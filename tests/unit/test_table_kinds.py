"""Tables as people and programs write them."""

import io
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipnb import load_dataset
from clipnb.datasets._images import NO_FILE
from clipnb.datasets._table import NO_IMAGE, NO_PATH
from clipnb.errors import InputError

NAN = float("nan")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for path in ("0.png", "1.png", "2.png", "sub/a b.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / path)
    return tmp_path


def parquet(folder, labels, paths=("0.png", "1.png", "2.png"), name="path"):
    pq.write_table(pa.table({name: paths, "label": labels}), folder / "t.parquet")
    return load_dataset(f"table:{folder / 't.parquet'}")


def text(folder, content, name="t.csv", encoding="utf-8"):
    (folder / name).write_bytes(content.encode(encoding))
    return load_dataset(f"table:{folder / name}")


@pytest.mark.parametrize(
    ("labels", "classnames", "found"),
    [
        ([0.0, 1.0, None], ["0", "1"], [0, 1, -1]),
        ([0.0, 1.0, NAN], ["0", "1"], [0, 1, -1]),
        (pa.array([0, 1, None], pa.int8()), ["0", "1"], [0, 1, -1]),
        (pa.array([0, 10, -1]), ["0", "10"], [0, 1, -1]),
        (["cat", " dog ", None], ["cat", "dog"], [0, 1, -1]),
        (["cat", "  ", "dog"], ["cat", "dog"], [0, -1, 1]),
        (pa.array(["cat", "dog", None], pa.large_string()), ["cat", "dog"], [0, 1, -1]),
        (pa.array(["cat", "dog", None], pa.string_view()), ["cat", "dog"], [0, 1, -1]),
        (pa.array(["cat", "dog", "cat"]).dictionary_encode(), ["cat", "dog"], [0, 1, 0]),
        ([True, False, None], ["False", "True"], [1, 0, -1]),
        (pa.array([Decimal("1"), Decimal("2"), None]), ["1", "2"], [0, 1, -1]),
        (["cafe\u0301", "caf\u00e9", "NA"], ["NA", "caf\u00e9"], [1, 1, 0]),
    ],
)
def test_labels_of_parquet(folder, labels, classnames, found):
    data = parquet(folder, labels)
    assert (data.classnames, data.labels.tolist()) == (classnames, found)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([["cat"], ["dog"], ["cat"]], "Expected one label an image in table:"),
        ([{"a": 1}] * 3, "Expected one label an image in table:"),
        ([0.5, 1.0, 2.0], "Expected labels of table:"),
        ([float("inf"), 1.0, 2.0], "Expected labels of table:"),
        ([-2, 0, 1], None),
    ],
)
def test_labels_that_are_no_names(folder, labels, text):
    if text is None:
        assert parquet(folder, labels).classnames == ["-2", "0", "1"]  # names as any other, if odd ones
        return
    with pytest.raises(InputError, match="^" + text) as caught:
        parquet(folder, labels)
    assert "0.png" in str(caught.value)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_paths_of_every_string_type(folder, kind):
    assert parquet(folder, ["a", "b", "a"], pa.array(["0.png", "1.png", "2.png"], kind)).ids == [
        "0.png",
        "1.png",
        "2.png",
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separators_and_encodings(folder, separator, encoding, newline):
    rows = [["Path", "Label"], ["0.png", "köter"], ["1.png", '"a' + separator + ' b"'], ["2.png", ""]]
    data = text(folder, newline.join(separator.join(row) for row in rows) + newline, encoding=encoding)
    assert data.classnames == [f"a{separator} b".replace("\t", ""), "köter"] and data.labels.tolist() == [1, 0, -1]


def test_blanks_around_commas_and_breaks_in_cells(folder):
    data = text(folder, 'path , label\n 0.png , cat\n1.png,"big\ncat"\n"sub/a b.png" , "dog, small"\n\n')
    assert data.ids == ["0.png", "1.png", "sub/a b.png"] and data.classnames == ["big cat", "cat", "dog, small"]


@pytest.mark.parametrize("column", ["img", "IMAGE", "image_file_path", "File_Name", "filepath"])
@pytest.mark.parametrize("label", ["label", "Class", "fine_label", "category"])
def test_names_of_columns(folder, column, label):
    assert text(folder, f"{column},{label}\n0.png,cat\n1.png,dog\n").classnames == ["cat", "dog"]


def test_a_table_without_labels_says_which_columns_it_has(folder):
    data = text(folder, "path,breed\n0.png,cat\n")
    assert data.labels.tolist() == [-1] and "among the columns breed of " in data.remarks[0]
    assert text(folder, "path\n0.png\n").remarks == ()


def test_whole_numbers_in_a_csv(folder):
    assert text(folder, "path,label\n0.png,1.0\n1.png,10.0\n2.png,\n").classnames == ["1", "10"]
    assert text(folder, "path,label\n0.png,1\n1.png,10\n2.png,-1\n").labels.tolist() == [0, 1, -1]
    assert text(folder, "path,label\n0.png,1.5\n1.png,v2\n2.png,\n").classnames == ["1.5", "v2"]


def test_paths_as_windows_writes_them_and_absolute_ones(folder):
    data = text(folder, f"path,label\nsub\\a b.png,cat\n{folder}/0.png,dog\n./1.png,dog\n")
    assert data.ids == ["sub/a b.png", "0.png", "1.png"] and data[0][0].size == (8, 8)
    for path in ("C:\\x.png", "..\\x.png", "/etc/x.png", "sub/../../x.png", "."):
        with pytest.raises(InputError, match=r"^Expected paths of images below the folder of the table"):
            text(folder, f"path,label\n{path},cat\n")
    with pytest.raises(InputError, match=r"^Expected each image once in table:.*, got '0.png' again$"):
        text(folder, "path,label\n0.png,cat\n./0.png,dog\n")


def test_rows_that_name_no_image_are_counted(folder):
    data = text(folder, "path,label\n0.png,cat\n,dog\n  ,dog\ngone.png,dog\n1.png,dog\n")
    assert data.ids == ["0.png", "1.png"] and data.left_out == {
        NO_PATH: ["t.csv, row 3", "t.csv, row 4"],
        NO_FILE: ["gone.png"],
    }
    with pytest.raises(
        InputError, match=r"found none; 1 item of table:.* is left out: rows whose file is not there \(1: gone.png\)$"
    ):
        text(folder, "path,label\ngone.png,cat\n")


@pytest.mark.parametrize("row", ["0.png", "0.png,cat,more", 'a,b,"c'])
def test_rows_of_another_length_are_refused(folder, row):
    with pytest.raises(InputError, match=r"^Expected 2 cells a row in .*t.csv, got [13] in line 3: "):
        text(folder, f"path,label\n1.png,dog\n{row}\n")
    assert len(text(folder, "path,label\n1.png,dog,,\n")) == 1  # empty cells move nothing


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.xlsx", b"PK\x03\x04x"), ("t.csv.gz", b"\x1f\x8bx"), ("t.feather", b"ARROW1xx"), ("t.parquet", b"path,label")],
)
def test_files_of_other_kinds_are_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=r"^Cannot read the table .*: it is "):
        load_dataset(f"table:{folder / name}")


def test_text_in_another_encoding_is_refused_with_the_way_out(folder):
    with pytest.raises(InputError, match=r"^Cannot read the table .*; save it as UTF-8$"):
        text(folder, "path,label\n0.png,köter\n", encoding="cp1252")


def test_json_lines(folder):
    lines = [
        {"file_name": "0.png", "label": "cat"},
        {"file_name": "1.png", "label": None},
        {"file_name": "2.png", "label": "dog", "x": 1},
    ]
    data = text(folder, "".join(json.dumps(line) + "\n" for line in lines), "metadata.jsonl")
    assert data.classnames == ["cat", "dog"] and data.labels.tolist() == [0, -1, 1]


def test_hugging_face_tables_with_other_columns(folder):
    image = {"bytes": (folder / "0.png").read_bytes(), "path": None}
    names = {
        "info": {"features": {"img": {"_type": "Image"}, "digit": {"names": ["zero", "one"], "_type": "ClassLabel"}}}
    }
    rows = {
        "img": [image, {"bytes": None, "path": "1.png"}, None, {"bytes": None, "path": None}],
        "digit": [1, 0, 0, -1],
    }
    pq.write_table(pa.table(rows).replace_schema_metadata({"huggingface": json.dumps(names)}), folder / "t.parquet")
    data = load_dataset(f"table:{folder / 't.parquet'}")
    assert (
        data.classnames == ["zero", "one"]
        and data.labels.tolist() == [1, 0]
        and [data[i][0].size for i in range(2)] == [(8, 8)] * 2
    )
    assert data.left_out == {NO_IMAGE: ["t.parquet#2", "t.parquet#3"]}


def test_cifar100_of_hugging_face(folder):
    image = {"bytes": (folder / "0.png").read_bytes(), "path": None}
    pq.write_table(pa.table({"img": [image] * 2, "fine_label": [3, 1], "coarse_label": [0, 0]}), folder / "t.parquet")
    assert load_dataset(f"table:{folder / 't.parquet'}").classnames == ["1", "3"]


def test_images_are_turned(folder):
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", (8, 4)).save(folder / "0.png", exif=tag)
    Image.new("RGB", (8, 4)).save(file := io.BytesIO(), "JPEG", exif=tag)
    assert text(folder, "path,label\n0.png,cat\n")[0][0].size == (4, 8)
    pq.write_table(pa.table({"image": [file.getvalue()], "label": ["cat"]}), folder / "t.parquet")
    assert np.asarray(load_dataset(f"table:{folder / 't.parquet'}")[0][0]).shape == (8, 4, 3)
