"""Data as users have it: tables of paths, pictures inside Parquet, lists and mappings of classnames."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipnb import InputError, load_dataset
from clipnb.datasets import with_classes

NAMES = ["fire truck", 'Müller, "Karl"', "собака", "犬", "a/b"]


@pytest.fixture
def table(tmp_path):
    """Five pictures whose colour is their position, and rows that say where they are."""
    (tmp_path / 'flat, "odd" folder').mkdir()
    paths = [f'flat, "odd" folder/{i} é.png' for i in range(5)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(tmp_path / path)
    return tmp_path, pd.DataFrame({"path": paths, "label": NAMES})


def is_read(data, labels=NAMES):
    assert [data.classnames[label] if label >= 0 else "" for label in data.labels] == list(labels)
    assert [data[i][0].getpixel((0, 0))[0] for i in range(len(data))] == [10 * i for i in range(len(data))]
    assert data.classnames == sorted({label for label in labels if label}) and data.labels.dtype == np.int64


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "bom.csv"])
def test_a_table_of_paths_and_labels(table, kind):
    folder, rows = table
    file = folder / f"set.{kind}"
    if kind == "parquet":
        rows.to_parquet(file)
    else:
        rows.to_csv(
            file, index=False, sep="\t" if kind == "tsv" else ",", encoding="utf-8-sig" if "bom" in kind else "utf-8"
        )
    is_read(load_dataset(f"table:{file}"))


def test_labels_may_be_unknown_or_missing_or_look_like_nothing(table):
    folder, rows = table
    rows.assign(label=["", "NA", "null", "10", "9"]).to_csv(folder / "set.csv", index=False)
    data = load_dataset(f"table:{folder / 'set.csv'}")
    assert data.classnames == ["NA", "null", "9", "10"] and data.labels.tolist() == [-1, 0, 1, 3, 2]
    rows[["path"]].rename(columns={"path": "filename"}).to_csv(folder / "set.csv", index=False)
    data = load_dataset(f"table:{folder / 'set.csv'}")
    assert data.classnames == [] and (data.labels == -1).all() and data[4][1] == -1


@pytest.mark.parametrize("named", [True, False])
def test_pictures_inside_parquet_as_hugging_face_stores_them(table, named):
    folder, rows = table
    contents = []
    for path in rows["path"]:
        Image.open(folder / path).save(file := io.BytesIO(), "PNG")
        contents.append({"bytes": file.getvalue(), "path": path})
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    if named:
        names = {
            "info": {
                "features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
            }
        }
        schema = schema.with_metadata({"huggingface": json.dumps(names)})
    for part, some in enumerate((slice(0, 3), slice(3, 5))):
        whole = pa.table({"image": contents[some], "label": [0, 1, None, 1, 0][some]}, schema=schema)
        pq.write_table(whole, folder / f"train-0000{part}.parquet", row_group_size=2)
    data = load_dataset(f"table:{folder / 'train-*.parquet'}")
    assert data.classnames == (["cat", "dog"] if named else ["0", "1"]) and data.labels.tolist() == [0, 1, -1, 1, 0]
    assert data.ids[:4] == [
        "train-00000.parquet#0",
        "train-00000.parquet#1",
        "train-00000.parquet#2",
        "train-00001.parquet#0",
    ]
    assert [data[i][0].getpixel((0, 0))[0] for i in (4, 0, 2, 1, 3)] == [40, 0, 20, 10, 30]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a,b\n1,2\n", "Expected a column of paths (path, file_name, filename, file, image_path, image, img, "),
        ("", "Expected a column of paths (path, file_name, "),
        ("path,label\nx.png,a\nx.png,b\n", "Expected each image once in table:"),
        ("path,label\n", "Expected images in table:"),
        ("path\n\udcff.png\n", "Cannot read the table "),
    ],
)
def test_a_table_that_cannot_be_used_is_reported(tmp_path, content, text):
    (tmp_path / "x.png").touch()
    (tmp_path / "set.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        load_dataset(f"table:{tmp_path / 'set.csv'}")
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


def test_a_broken_or_missing_parquet_file_is_reported(tmp_path):
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"^Cannot read the table .*set.parquet: "):
        load_dataset(f"table:{tmp_path / 'set.parquet'}")
    with pytest.raises(InputError, match=r"^Expected a CSV or Parquet table in 'table:.*', found none$"):
        load_dataset(f"table:{tmp_path / 'no-*.parquet'}")


# Classnames -----------------------------------------------------------------------------------------------------------


def named(pictures, file, content, data=None):
    path = pictures.parent / file
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return with_classes(data or load_dataset(f"folder:{pictures}"), path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("names.txt", "\ufeffbird\nfire truck\n\n cat \ndog\n"),
        ("names.json", ["bird", "fire_truck", "cat", "dog"]),
        (
            "names.json",
            {
                "categories": [
                    {"id": i, "name": name, "supercategory": "x"}
                    for i, name in enumerate(["bird", "fire truck", "cat", "dog"])
                ]
            },
        ),
    ],
)
def test_a_list_of_candidates(pictures, file, content):
    data = named(pictures, file, content)
    assert [name.replace("_", " ") for name in data.classnames] == ["bird", "fire truck", "cat", "dog"]
    assert data.labels.tolist() == [2] * 4 + [3] * 4 + [1] * 4 and data.ids[0] == "cat/0.png" and data[0][1] == 2
    free = replace(data, classnames=[], labels=np.full(12, -1))
    assert (
        named(pictures, file, content, free).labels.tolist() == [-1] * 12
        and len(named(pictures, file, content, free).classnames) == 4
    )


def test_coco_ids_are_labels_too(pictures):
    data = replace(load_dataset(f"folder:{pictures}"), classnames=["3", "18", "44"])
    coco = {
        "images": [],
        "categories": [
            {"id": 18, "name": "dog"},
            {"id": 3, "name": "car"},
            {"id": 44, "name": "bottle"},
            {"id": 1, "name": "person"},
        ],
    }
    found = named(pictures, "coco.json", coco, data)
    assert (
        found.classnames == ["dog", "car", "bottle", "person"] and found.labels.tolist() == [1] * 4 + [0] * 4 + [2] * 4
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("map.json", {"fire_truck": ["fire engine", "fire truck, red"], "cat": "kočka"}),
        ("map.csv", 'fire truck,fire engine,"fire truck, red"\ncat,kočka,\n'),
    ],
)
def test_a_mapping_of_names_with_synonyms(pictures, file, content):
    data = named(pictures, file, content)
    assert data.classnames == ["kočka", "dog", "fire engine"] and data.synonyms == [
        ["kočka"],
        ["dog"],
        ["fire engine", "fire truck, red"],
    ]
    assert data.labels.tolist() == load_dataset(f"folder:{pictures}").labels.tolist()


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("names.txt", "cat\ndog\n", "Expected all classes of folder:.*1 are missing: 'fire truck'"),
        ("names.txt", "\n", "Expected non-empty classnames in .*names.txt, got none or an empty one"),
        ("map.json", {"cta": "cat"}, "Expected classes of folder:.*got 1 others: 'cta'"),
        ("map.json", {"cat": ""}, "Expected non-empty classnames"),
        ("map.json", {"cat": 3}, "Expected .*map.json to hold a list of names"),
        ("map.json", "{", "Cannot read the classnames in .*map.json: "),
        ("map.json", "3", "Expected .*map.json to hold a list of names"),
        ("map.csv", "cat\n", "Expected non-empty classnames"),
    ],
)
def test_classnames_that_do_not_fit_are_reported(pictures, file, content, text):
    with pytest.raises(InputError, match=text):
        named(pictures, file, content)
    with pytest.raises(InputError, match=r"Expected a file of classnames, got .*nowhere.txt: No such file"):
        with_classes(load_dataset(f"folder:{pictures}"), pictures / "nowhere.txt")
