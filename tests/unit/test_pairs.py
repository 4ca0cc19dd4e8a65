"""Images with captions from every kind of source, and the command `clipnb retrieval` on them."""

import io
import json
import re
import tarfile

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

import clipnb
from clipnb import InputError
from clipnb.cli import main
from clipnb.datasets import load_pairs

CAPTIONS = {
    "a.png": ["a red square", "red"],
    "b.png": ["a green square", "green, all of it", "grass"],
    "c.png": ["blue"],
}
COLOURS = {"a.png": "red", "b.png": "green", "c.png": "blue"}


@pytest.fixture
def folder(tmp_path):
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    return tmp_path


def karpathy(folder):
    images = [
        {"filename": name, "filepath": "val2014", "split": "test", "sentences": [{"raw": text} for text in texts]}
        for name, texts in CAPTIONS.items()
    ]
    images.append({"filename": "z.png", "split": "train", "sentences": [{"raw": "other"}]})
    return written(folder / "dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))


def coco(folder):
    images = [{"id": 7 * i, "file_name": name} for i, name in enumerate(CAPTIONS)]
    notes = [
        {"id": 0, "image_id": 7 * i, "caption": text} for i, texts in enumerate(CAPTIONS.values()) for text in texts
    ]
    notes.sort(key=lambda note: note["caption"])  # captions are in any order
    return written(folder / "captions.json", json.dumps({"images": images, "annotations": notes}))


def written(file, text):
    file.write_text(text, "utf-8")
    return str(file)


def rows():
    return pd.DataFrame(
        [(name, text) for name, texts in CAPTIONS.items() for text in texts], columns=["image", "caption"]
    )


def comma(folder):
    rows().to_csv(folder / "pairs.csv", index=False)
    return str(folder / "pairs.csv")


def pipe(folder):
    table = rows().rename(columns={"image": "image_name", "caption": "comment"})
    table.insert(1, "comment_number", range(len(table)))
    table.to_csv(folder / "results.csv", index=False, sep="|")
    return str(folder / "results.csv")


def parquet(folder):
    rows().groupby("image", sort=False)["caption"].agg(list).reset_index().to_parquet(folder / "pairs.parquet")
    return str(folder / "pairs.parquet")


def lines(folder):
    text = "\n".join(json.dumps({"file_name": name, "text": texts}) for name, texts in CAPTIONS.items())
    return written(folder / "pairs.jsonl", text)


def shards(folder, kind):
    with tarfile.open(folder / "00.tar", "w") as archive:
        for i, (name, texts) in enumerate(CAPTIONS.items()):
            archive.add(folder / name, f"{i:03}.png")
            content = json.dumps({"captions": texts}) if kind == "json" else "\n".join(texts)
            member = tarfile.TarInfo(f"{i:03}.{kind}")
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return f"webdataset:{folder / '*.tar'}"


SOURCES = {
    "karpathy": karpathy,
    "coco": coco,
    "csv": comma,
    "separated by bars": pipe,
    "parquet": parquet,
    "json lines": lines,
    "webdataset txt": lambda folder: shards(folder, "txt"),
    "webdataset json": lambda folder: shards(folder, "json"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_pairs(source, folder):
    pairs = load_pairs(SOURCES[source](folder))
    found = [sorted(pairs.captions[t] for t in np.flatnonzero(pairs.image_of_text == i)) for i in range(3)]
    assert found == [sorted(texts) for texts in CAPTIONS.values()] and len(pairs.captions) == 6
    assert [pairs.images[i][0].getpixel((0, 0)) for i in range(3)] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert (pairs.images.labels == -1).all() and not pairs.images.left_out


def test_images_may_lie_elsewhere_and_some_may_be_missing(folder):
    source = karpathy(folder)
    (folder / "images" / "val2014").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / "images" / "val2014" / name)
    pairs = load_pairs(source, folder / "images")
    assert pairs.images.ids == ["val2014/a.png", "val2014/b.png"] and pairs.image_of_text.tolist() == [0, 0, 1, 1, 1]
    assert pairs.images.left_out == {"rows whose file is not there": ["val2014/c.png"]}
    with pytest.raises(InputError, match=r"^Expected images with captions in .*found none \(1 rows whose file"):
        load_pairs(source, folder / "images", split="train")


def colours():
    channels = {"red": [1, 0, 0], "green": [0, 1, 0], "grass": [0, 1, 0.1], "blue": [0, 0, 1]}
    return clipnb.wrap_model(
        lambda images: np.array([np.asarray(image).mean(axis=(0, 1)) for image in images]),
        lambda texts: np.array([next((v for n, v in channels.items() if n in text), [1, 1, 0]) for text in texts]),
        name="colours",
    )


def test_the_command_prints_and_writes_the_scores(folder, monkeypatch):
    monkeypatch.setattr("clipnb.load_model", lambda name, **options: colours())
    arguments = ["retrieval", "--dataset", comma(folder), "--json", str(folder / "r.json")]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    assert "image to text hit at 1" in run.stdout and "folds of" not in run.stdout
    found = json.loads((folder / "r.json").read_text())
    assert (found["images"], found["captions"]) == (3, 6)
    assert found["text_to_image_hit_at_1"] == found["image_to_text_hit_at_1"] == 1
    assert found["image_to_text_recall_at_1"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert found["image_to_text_hit_at_1_ci"][0] < 1 and found["chance_text_to_image_hit_at_1"] == pytest.approx(1 / 3)
    run = CliRunner().invoke(main, [*arguments, "--fold-size", "1"])
    assert run.exit_code == 0 and "folds of 1" in run.stdout, run.output
    assert json.loads((folder / "r.json").read_text())["by_fold"]["folds"] == 3


BAD = {
    "nothing.csv": ("", "Expected a column of image paths"),
    "no_caption.csv": ("image,label\na.png,x\n", "Expected a column of captions"),
    "no_path.csv": ("image,caption\n,red\n", "Expected the path of an image in row 1"),
    "outside.csv": ("image,caption\n../a.png,red\n", "Expected paths of images below the folder of the table"),
    "absent.csv": ("image,caption\nq.png,red\n", "Expected images with captions in"),
    "blank.csv": ('image,caption\na.png," "\n', "Expected images with captions in"),
    "numbers.jsonl": ('{"image": "a.png", "caption": 5}', "Expected a caption, or a list of them, in row 1"),
    "list.json": ("[1, 2]", "Expected Karpathy's or COCO's JSON of captions"),
    "boxes.json": (
        '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"bbox": 1}]}',
        "Expected captions in",
    ),
    "neither.json": ('{"images": [{"id": 1, "file_name": "a.png"}]}', "Expected captions in"),
    "unknown.json": (
        '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 9, "caption": "x"}]}',
        "Cannot read images and captions from",
    ),
    "broken.json": ("{", "Cannot read images and captions from"),
    "latin.csv": (b"image,caption\na.png,caf\xe9\n", "Cannot read images and captions from"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_holds_something_else_is_one_line_and_exit_code_2(name, folder):
    content, text = BAD[name]
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    run = CliRunner().invoke(main, ["retrieval", "--dataset", str(folder / name)])
    assert (run.exit_code, run.stdout) == (2, "") and run.stderr.count("\n") == 1, run.output
    assert re.match(f"clipnb: {re.escape(text)}", run.stderr), run.stderr


def test_wrong_options_are_one_line(folder):
    source = karpathy(folder)
    for options, text in (
        ({"spec": str(folder / "no.csv")}, "Expected a file of images and captions"),
        ({"spec": f"webdataset:{folder}/no-*.tar"}, "Expected tar shards"),
        ({"spec": source, "split": "dev"}, "Expected `split` (--split) to be one of test, train"),
        ({"spec": source, "images": folder / "no"}, "Expected `images` (--images) to be an existing folder"),
    ):
        with pytest.raises(InputError, match="^" + re.escape(text)):
            load_pairs(**options)
