"""Folders as people have them: every item is an image of the set, or accounted for."""

import os
import re
import socket
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import clipnb
from clipnb import load_dataset
from clipnb.cli import main
from clipnb.datasets import _images
from clipnb.datasets._images import HIDDEN, NEEDS_HEIF, NOT_IMAGES, UNKNOWN_FORMAT, orientation
from clipnb.errors import InputError

ORIENTATION = 0x0112
TURNED_LEFT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_90",
    7: "TRANSVERSE",
    8: "ROTATE_270",
}


def write(*files, size=(8, 8), **options):
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "red").save(file, **options)


def opened(root):
    return load_dataset(f"folder:{root}")


@pytest.fixture
def root(tmp_path):
    """Two classes of one image each."""
    write(tmp_path / "set" / "cat" / "a.png", tmp_path / "set" / "dog" / "a.png")
    return tmp_path / "set"


def test_every_format_that_pillow_reads_is_an_image(root):
    formats = {
        ".avif": "AVIF",
        ".jfif": "JPEG",
        ".JPE": "JPEG",
        ".jp2": "JPEG2000",
        ".Tga": "TGA",
        ".webp": "WEBP",
        ".ico": "ICO",
        ".qoi": "QOI",
    }
    for suffix, kind in formats.items():
        write(root / "cat" / f"b{suffix}", size=(32, 32), format=kind)
    data = opened(root)
    assert len(data) == 2 + len(formats) and data.left_out == {}
    assert all(image.mode == "RGB" for image, _ in data)


def test_a_file_without_a_suffix_is_what_it_holds(root):
    write(root / "cat" / "b", format="PNG")
    write(root / "cat" / "2024.05", format="JPEG")
    (root / "cat" / "README").write_text("no image")
    data = opened(root)
    assert data.ids == ["cat/2024.05", "cat/a.png", "cat/b", "dog/a.png"] and data.left_out == {
        NOT_IMAGES: ["cat/README"]
    }


def test_what_is_no_image_is_counted_with_its_reason(root, monkeypatch):
    for name in ("a.heic", "b.HEIF"):
        (root / "cat" / name).write_bytes(b"x")
    for name in ("c.svg", "d.CR2"):
        (root / "cat" / name).write_bytes(b"x")
    for name in ("notes.txt", "movie.mpg", "page.pdf", "e.png~"):
        (root / "dog" / name).write_bytes(b"x")
    data = opened(root)
    assert len(data) == 2 and {reason: len(items) for reason, items in data.left_out.items()} == {
        NEEDS_HEIF: 2,
        UNKNOWN_FORMAT: 2,
        NOT_IMAGES: 4,
    }
    line = data.left_out_line()
    assert (
        line.startswith(f"8 items of folder:{root} are left out: ")
        and "pip install pillow-heif` (2: cat/a.heic, cat/b.HEIF)" in line
    )
    assert data.left_out_rows()[-1] == {
        "reason": NOT_IMAGES,
        "count": 4,
        "examples": ["dog/e.png~", "dog/movie.mpg", "dog/notes.txt"],
    }


@pytest.mark.parametrize(
    "name",
    [
        "._a.png",
        ".hidden.png",
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        ".ipynb_checkpoints/a.png",
        "__MACOSX/a.png",
        "@eaDir/a.png",
        ".git/objects/a.png",
    ],
)
@pytest.mark.parametrize("place", ["", "cat"])
def test_hidden_files_and_leftovers_are_no_images(root, place, name):
    write(root / place / name, format="PNG")
    data = opened(root)
    assert data.ids == ["cat/a.png", "dog/a.png"] and data.classnames == ["cat", "dog"]
    top = name.split("/")[0] + ("/" if "/" in name else "")
    assert data.left_out == {HIDDEN: [f"{place}/{top}" if place else top]}


def test_links_are_followed_and_broken_ones_are_named(root, tmp_path):
    write(tmp_path / "elsewhere" / "more" / "b.png", tmp_path / "elsewhere" / "bird" / "c.png")
    (root / "cat" / "linked").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "cat" / "file.png").symlink_to(tmp_path / "elsewhere" / "bird" / "c.png")
    (root / "bird").symlink_to(tmp_path / "elsewhere" / "bird")  # a class folder
    (root / "dog" / "gone.png").symlink_to("/no/such/annex/object")
    (root / "dog" / "round").symlink_to(root / "dog" / "round")
    data = opened(root)
    assert data.ids == ["bird/c.png", "cat/a.png", "cat/file.png", "cat/linked/b.png", "dog/a.png"]
    assert data.left_out == {"broken links": ["dog/gone.png", "dog/round"]}


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_links_that_lead_back_end(root, target):
    (root / "cat" / "back").symlink_to(target)
    data = opened(root)
    assert data.ids == ["cat/a.png", "dog/a.png"] and data.left_out == {
        "links to folders that are read anyway": ["cat/back"]
    }


def test_a_folder_reached_twice_is_read_once(root):
    write(root / "cat" / "z" / "b.png")
    (root / "cat" / "a").symlink_to(root / "cat" / "z")
    data = opened(root)
    assert data.ids == ["cat/a.png", "cat/z/b.png", "dog/a.png"] and sum(map(len, data.left_out.values())) == 1


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="a system without named pipes")
def test_pipes_are_not_read(root):
    os.mkfifo(root / "cat" / "pipe.png")
    assert opened(root).left_out == {NOT_IMAGES: ["cat/pipe.png"]}


def test_images_beside_class_folders_are_counted(root):
    write(root / "cover.png")
    (root / "labels.csv").write_text("x")
    assert opened(root).left_out == {
        NOT_IMAGES: ["labels.csv"],
        "images beside the class folders, which have no class": ["cover.png"],
    }


def test_images_in_folders_below_count_for_the_class_and_that_is_said(root):
    write(root / "cat" / "kitten" / "b.png")
    data = opened(root)
    assert data.labels.tolist() == [0, 0, 1] and len(data.remarks) == 1 and "(cat/kitten)" in data.remarks[0]


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "val"), ("test",)])
def test_splits_are_no_classes(tmp_path, names):
    for name in names:
        write(tmp_path / name / "cat" / "a.png", tmp_path / name / "dog" / "a.png")
    with pytest.raises(
        InputError,
        match=rf"^Expected one folder a class in {tmp_path}, got the splits? .*; give one of them: "
        rf"folder:{tmp_path}/\w+$",
    ):
        opened(tmp_path)


def test_an_empty_class_folder_is_refused_with_what_it_holds(root):
    (root / "bird").mkdir()
    (root / "bird" / "a.heic").write_bytes(b"x")
    with pytest.raises(
        InputError,
        match=r"found none in 1: bird \(only HEIC images, which need `pip install pillow-heif`\); "
        r"remove such a folder or add images$",
    ):
        opened(root)


def test_a_folder_without_images_says_what_is_there(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"found none; 1 item of folder:\S+ is left out: HEIC"):
        opened(tmp_path)


def test_names_in_both_normal_forms_are_one_class(root):
    for form in ("NFC", "NFD"):
        write(root / unicodedata.normalize(form, "café_noir") / f"{form}.png")
    write(root / "tea " / "a.png")
    data = opened(root)
    assert data.classnames == ["café noir", "cat", "dog", "tea"] and np.bincount(data.labels).tolist() == [2, 1, 1, 1]
    assert any("are one class, 'café noir'" in remark for remark in data.remarks) and any(
        "'tea ' as 'tea'" in remark for remark in data.remarks
    )
    assert all(data[i][0].size == (8, 8) for i in range(len(data)))


def test_names_that_differ_by_case_are_reported_as_duplicates(root):
    write(root / "Cat" / "a.png")
    data = opened(root)
    assert data.classnames == ["Cat", "cat", "dog"] and [f.what for f in clipnb.prompts.lint(data.classnames)] == [
        "duplicate classname"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_utf8(root):
    write(root / "cat" / os.fsdecode(b"\xff.png"))
    data = opened(root)
    assert "cat/\\xff.png" in data.ids and all(data[i][0].size == (8, 8) for i in range(3))
    (root / "dog").rename(root / os.fsdecode(b"caf\xe9"))
    with pytest.raises(
        InputError, match=r"^Expected names of class folders in UTF-8 in .*, got 'caf\\\\xe9'; rename the folder$"
    ):
        opened(root)


# What an image shows -------------------------------------------------------------------------------------------------


def corners(size=(12, 8)):
    image = Image.new("RGB", size, "white")
    image.paste("red", (0, 0, size[0] // 2, size[1] // 2))
    image.paste("blue", (size[0] // 2, size[1] // 2, *size))
    return image


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("value", range(1, 9))
def test_images_are_turned_as_their_tag_says(tmp_path, suffix, value):
    upright, tag = corners((48, 32)), Image.Exif()
    tag[ORIENTATION] = value
    stored = upright
    if value > 1:  # what a viewer turns back
        undo = {6: "ROTATE_90", 8: "ROTATE_270"}.get(value, TURNED_LEFT[value])
        stored = upright.transpose(Image.Transpose[undo])
    options = {"quality": 100} if suffix in ("jpg", "avif") else {}
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        stored.save(tmp_path / name / f"a.{suffix}", exif=tag, **options)
    data = opened(tmp_path)
    assert data.exif_rotation == "applied"
    shown = data[0][0]
    assert shown.size == upright.size and np.abs(np.asarray(shown, dtype=int) - np.asarray(upright)).mean() < 12


def test_a_broken_tag_turns_nothing(root):
    Image.new("RGB", (8, 4)).save(root / "cat" / "b.jpg", exif=b"Exif\0\0II*\0garbage!")
    tag = Image.Exif()
    tag[ORIENTATION] = 99
    Image.new("RGB", (8, 4)).save(root / "cat" / "c.jpg", exif=tag)
    data = opened(root)
    assert data[data.ids.index("cat/b.jpg")][0].size == data[data.ids.index("cat/c.jpg")][0].size == (8, 4)


def test_published_sets_are_read_as_they_are_and_the_provenance_says_so(root, tiny):
    folder, emoji = opened(root), load_dataset("emoji").take(2)
    assert emoji.exif_rotation == "ignored" and not emoji.turned
    assert clipnb.encode_images(tiny, folder).provenance["exif_rotation"] == "applied"
    assert clipnb.encode_images(tiny, emoji).provenance["exif_rotation"] == "ignored"


def test_the_decoder_of_the_device_leaves_turned_images_to_pillow(root, tiny):
    pytest.importorskip("torchcodec.decoders")
    tag = Image.Exif()
    tag[ORIENTATION] = 6
    corners((80, 40)).save(root / "cat" / "b.jpg", exif=tag, quality=95)
    data = opened(root)
    both = [clipnb.encode_images(tiny, data, decoder=decoder).vectors for decoder in ("pillow", "device")]
    assert np.allclose(*both, atol=0.02)


@pytest.mark.parametrize(("size", "fits"), [((1, 1), True), ((1, 999), True), ((2000, 1), False)])
def test_extreme_shapes(root, size, fits):
    write(root / "cat" / "b.png", size=size)
    data = opened(root)
    if fits:
        assert data[1][0].size == size
    else:
        with pytest.raises(
            InputError, match=r"Cannot read image 'cat/b.png' .*2000 x 1 pixels, more than 1000 to 1; crop it"
        ):
            data[1]


def test_a_transparent_colour_of_an_rgb_image_becomes_white(tmp_path):
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "a.png", transparency=(9, 9, 9))
    assert load_dataset(f"folder:{tmp_path}")[0][0].getpixel((0, 0)) == (255, 255, 255)


def test_heic_is_read_where_pillow_heif_is_installed(root, monkeypatch):
    """Pillow learns of HEIC from pillow-heif, whose own reader stands in here."""

    class Heif:
        @staticmethod
        def register_heif_opener():
            Image.register_extension("PNG", ".heic")

    monkeypatch.setitem(sys.modules, "pillow_heif", Heif)
    _images.image_suffixes.cache_clear()
    try:
        write(root / "cat" / "b.heic", format="PNG")
        assert "cat/b.heic" in opened(root).ids
    finally:
        del Image.EXTENSION[".heic"]
        _images.image_suffixes.cache_clear()
    assert orientation(Image.new("RGB", (1, 1))) == 1


# Commands ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tiny_weights, root):
    write(root / "cat" / ".hidden.png", root / "cat" / "b.png", root / "dog" / "b.png")
    (root / "cat" / "gone.png").symlink_to("/no/such/file")

    def call(command, *arguments):
        fixed = ["--model", "tiny-clip", "--pretrained", str(tiny_weights), "--dataset", f"folder:{root}"]
        return CliRunner().invoke(main, [command, *fixed, *map(str, arguments)])

    return call


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "margin", "ensemble", "describe", "audit", "encode", "reproduce"])
def test_every_command_counts_what_is_left_out_in_one_line_and_in_its_json(run, root, tmp_path, command):
    import json

    more = {
        "encode": ["--store", tmp_path / "s"],
        "ensemble": ["--method", "uniform"],
        "reproduce": ["--no-pool", "--templates", "bare"],
    }.get(command, [])
    result = run(command, "--json", tmp_path / "out.json", *more)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if " left out: " in line]
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))
    rows = {row["reason"]: (row["count"], row["examples"]) for row in found["left_out"]}
    assert len(lines) == 1 and rows[HIDDEN] == (1, ["cat/.hidden.png"])
    if command == "audit":
        assert [row["id"] for row in found["unreadable"]] == [
            "cat/gone.png"
        ] and "Left out" in clipnb.report.Report.load(tmp_path / "out.json").to_html()
    else:
        assert rows["broken links"] == (1, ["cat/gone.png"]) and re.match(
            rf"clipnb: 2 items of folder:{root} are left out: ", lines[0]
        )
    assert found.get("summary", found)["exif_rotation"] == "applied"


@pytest.mark.slow
def test_fixed_names_are_scored_and_listed(run, root, tmp_path):
    import json

    (root / "cat").rename(root / "AnnualCrop")
    (root / "dog").rename(root / "n02084071")
    for command, more in (
        ("evaluate", []),
        ("margin", []),
        ("ensemble", ["--method", "uniform"]),
        ("audit", []),
        ("reproduce", ["--no-pool"]),
    ):
        store = (
            [] if command == "reproduce" else ["--store", tmp_path / "store"]
        )  # with and without repairs, one store serves
        plain = run(command, *store, *more)
        assert plain.exit_code == 0 and ("WordNet id instead of a classname: 1 'n02084071' (dog)" in plain.output), (
            plain.output
        )
        result = run(command, "--fix-names", "--json", tmp_path / "out.json", *store, *more)
        assert (
            result.exit_code == 0 and "clipnb: classname 'AnnualCrop' is repaired to 'annual crop'\n" in result.stderr
        ), result.output
        found = json.loads((tmp_path / "out.json").read_text("utf-8"))
        assert found.get("summary", found)["renamed"] == [
            {"from": "AnnualCrop", "to": "annual crop"},
            {"from": "n02084071", "to": "dog"},
        ]
        assert "CamelCase" not in result.output


@pytest.mark.slow
def test_permuted_labels_are_reported(monkeypatch, model, tmp_path):
    """Drawings in folders whose names are those of the next class."""
    data = load_dataset("icons")
    shown = np.flatnonzero(np.bincount(data.labels) >= 40)[:20].tolist()  # classes that the model knows well
    for c in shown:
        name = data.classnames[shown[(shown.index(c) + 1) % len(shown)]]
        (tmp_path / name).mkdir(exist_ok=True)
        for i in np.flatnonzero(data.labels == c)[:5]:
            data[int(i)][0].save(tmp_path / name / f"{i}.png")
    result = CliRunner().invoke(main, ["evaluate", "--dataset", f"folder:{tmp_path}"])
    assert result.exit_code == 0 and "clipnb: labels and names seem to be in different orders: " in result.stderr, (
        result.output
    )
    report = clipnb.audit(f"folder:{tmp_path}", model)
    assert report.findings["what"][0] == "labels and names seem to be in different orders"


def test_noise_has_no_order():
    rng = np.random.default_rng(0)
    for classes in (2, 5, 50, 300):
        labels = np.repeat(np.arange(classes), 4)
        assert clipnb.explain.label_order(rng.integers(0, classes, len(labels)), labels, classes) is None
        assert clipnb.explain.label_order(labels, labels, classes) is None


@pytest.mark.slow
def test_python_m_clipnb_and_a_console_of_ascii(tmp_path):
    import subprocess

    write(tmp_path / "犬" / "a.png", tmp_path / "\U0001f431" / "a.png", size=(96, 96))
    found = subprocess.run(
        [sys.executable, "-m", "clipnb", "evaluate", "--dataset", f"folder:{tmp_path}", "--json", "-"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    import json

    assert found.returncode == 0, found.stderr
    assert {row["classname"] for row in json.loads(found.stdout)["worst_classes"]} == {"犬", "\U0001f431"}
    table = subprocess.run(
        [sys.executable, "-m", "clipnb", "evaluate", "--dataset", f"folder:{tmp_path}"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )
    assert table.returncode == 0 and b"\\u72ac" in table.stdout


def test_no_home_is_no_cache(monkeypatch):
    from clipnb.encode import _textcache

    def nobody(*_, **__):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("CLIPNB_CACHE", raising=False)
    monkeypatch.setattr(_textcache.platformdirs, "user_cache_dir", nobody)
    assert _textcache.cache_folder() is None
    monkeypatch.setenv("CLIPNB_CACHE", "~nobody-of-this-name/cache")
    assert _textcache.cache_folder() is None
