import io
import os
import pickle
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

from clipnb import load_dataset
from clipnb.datasets import LabeledImages, flatten
from clipnb.errors import InputError


def refuses(spec, text):
    with pytest.raises(InputError, match="^" + re.escape(text)) as caught:
        load_dataset(spec)
    assert "\n" not in str(caught.value)


def test_class_folders_in_alphabetical_order(pictures):
    data = load_dataset(f"folder:{pictures}")
    assert data.classnames == ["cat", "dog", "fire truck"] and len(data) == 12
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and data.labels.dtype == np.int64
    assert data.ids[:2] == ["cat/0.png", "cat/1.png"] and len(set(data.ids)) == 12
    for i in (0, 5, 11):
        image, label = data[i]
        assert image.mode == "RGB" and label == data.labels[i] and type(label) is int
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(pictures / data.ids[i])))
    assert [label for _, label in data] == data.labels.tolist()  # it can be looped over


def test_other_files_and_hidden_folders_are_no_classes(pictures):
    (pictures / "cat" / "notes.txt").write_text("no picture")
    (pictures / ".cache").mkdir()
    (pictures / "cat" / "PHOTO.JPG").write_bytes((pictures / "cat" / "0.png").read_bytes())
    data = load_dataset(f"folder:{pictures}")
    assert len(data) == 13 and len(data.classnames) == 3 and "cat/PHOTO.JPG" in data.ids


def test_a_folder_of_pictures_alone_has_no_labels(pictures):
    data = load_dataset(f"folder:{pictures / 'cat'}")
    assert len(data) == 4 and data.classnames == [] and (data.labels == -1).all()
    assert data[0][1] == -1


def test_subsets(pictures):
    data = load_dataset(f"folder:{pictures}")
    assert data.take(3).ids == data.ids[:3] and len(data.take(99)) == 12 and data.take(np.int64(2)).ids == data.ids[:2]
    assert data.take([11, 0]).labels.tolist() == [2, 0] and data.take([-1]).ids == [data.ids[-1]]
    dogs = data.take(data.labels == 1)
    assert dogs.ids == data.ids[4:8] and dogs.labels.tolist() == [1] * 4 and dogs.classnames == data.classnames
    last = dogs.take([3])
    assert last.ids == ["dog/3.png"] and np.array_equal(np.asarray(last[0][0]), np.asarray(data[7][0]))
    assert len({data.fingerprint, dogs.fingerprint, last.fingerprint}) == 3
    with pytest.raises(InputError, match="Expected `indices` >= 0, got -1"):
        data.take(-1)


def test_the_fingerprint_names_the_set(pictures):
    first, again = (load_dataset(f"folder:{pictures}") for _ in range(2))
    assert first.fingerprint == again.fingerprint
    (pictures / "cat" / "0.png").rename(pictures / "cat" / "9.png")
    assert load_dataset(f"folder:{pictures}").fingerprint != first.fingerprint


def test_a_changed_picture_changes_the_fingerprint(pictures):
    path, first = pictures / "cat" / "1.png", load_dataset(f"folder:{pictures}")
    content, state = path.read_bytes(), path.stat()
    path.write_bytes((pictures / "cat" / "2.png").read_bytes())
    changed = load_dataset(f"folder:{pictures}")
    assert changed.ids == first.ids and changed.fingerprint != first.fingerprint
    others = np.arange(len(first)) != first.ids.index("cat/1.png")
    assert changed.take(others).fingerprint == first.take(others).fingerprint  # of the subset's own pictures only
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert load_dataset(f"folder:{pictures}").fingerprint == first.fingerprint


def test_a_changed_shard_changes_the_fingerprint(shards):
    folder, write = shards
    first = load_dataset(f"webdataset:{folder}/a-*.tar").fingerprint
    assert load_dataset(f"webdataset:{folder}/a-*.tar").fingerprint == first
    write("a-1.tar", [("000", 31, 1), ("001", 40, None)])
    assert load_dataset(f"webdataset:{folder}/a-*.tar").fingerprint != first


def test_ids_are_unique_and_labels_complete(shards):
    with pytest.raises(
        InputError, match=r"^Expected every image of x to have an id of its own, got 'b' twice or more$"
    ):
        LabeledImages("x", ["a", "b", "b"], np.zeros(3, dtype=np.int64), ["c"], None)
    with pytest.raises(InputError, match=r"^Expected a label for each of the 2 ids of x, got 3$"):
        LabeledImages("x", ["a", "b"], np.zeros(3, dtype=np.int64), ["c"], None)
    folder, write = shards
    write("a-1.tar", [("000", 30, 1), ("000", 40, 0)])
    refuses(
        f"webdataset:{folder}/a-*.tar", f"Expected one image a sample in {folder}/a-1.tar, got two of the name '000'"
    )


@pytest.mark.filterwarnings("ignore")  # Pillow's own about what it finds
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_a_damaged_file_is_read_or_named_and_nothing_else(tmp_path, format):
    rng, file = np.random.default_rng(0), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(file, format)
    content, named = file.getvalue(), 0
    for _ in range(60):
        damaged = bytearray(content[: rng.integers(1, len(content) + 1)])
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(0, 256)
        data = LabeledImages(
            "x", ["a"], np.zeros(1, dtype=np.int64), ["c"], lambda _, file=bytes(damaged): Image.open(io.BytesIO(file))
        )
        try:
            assert data[0][0].mode == "RGB"
        except InputError as error:
            assert str(error).startswith("Cannot read image 'a' of x: ") and "\n" not in str(error)
            named += 1
    assert named


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"Cannot read image 'a.png' .* could be decompression bomb"):
        load_dataset(f"folder:{tmp_path}")[0]


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "b.webp", "c.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    assert [image.getpixel((0, 0)) for image, _ in load_dataset(f"folder:{tmp_path}")] == [(255, 0, 0)] * 3


def test_wrong_specs_and_folders_are_reported(pictures, tmp_path):
    known = (
        "known: emoji, emoji:SPLIT, icons, icons:validation, folder:PATH, imagenet:PATH, imagenet-partial:PATH, "
        "table:FILE, torchvision:NAME:PATH, webdataset:PATTERN"
    )
    refuses("emojis", f"Unknown data set 'emojis'; {known}")
    refuses("", f"Unknown data set ''; {known}")
    refuses(
        "emoji:train", "Unknown split 'train' of the emoji set; known: test, validation, train-sample, unseen, hard"
    )
    refuses("folder:", "Expected an existing folder in 'folder:', got (nothing)")
    refuses("folder:/no/such", "Expected an existing folder in 'folder:/no/such', got /no/such")
    refuses(f"folder:{pictures / 'cat' / '0.png'}", "Expected an existing folder in ")
    (tmp_path / "void").mkdir()
    refuses(f"folder:{tmp_path / 'void'}", f"Expected images in folder:{tmp_path / 'void'}, found none")
    (pictures / "bird").mkdir()
    refuses(
        f"folder:{pictures}",
        f"Expected images in every class folder of {pictures}, found none in 1: bird; remove such a folder",
    )
    refuses(
        f"imagenet:{pictures}",
        f"Expected folders named by synset id (n01440764 ...) or ILSVRC2012_val_*.JPEG in {pictures}, got: ",
    )


@pytest.mark.parametrize("content", [b"", b"just text", "cut"])
def test_an_unreadable_picture_is_named(pictures, content):
    path = pictures / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:200] if content == "cut" else content)
    data = load_dataset(f"folder:{pictures}")
    assert data[5][0].size == (48, 40)  # the others are as before
    with pytest.raises(InputError, match=re.escape(f"Cannot read image 'dog/2.png' of folder:{pictures}: ")) as caught:
        data[6]
    assert "\n" not in str(caught.value)


def saved(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def flat_colour(image):
    image = flatten(image)
    assert image.mode == "RGB"
    colours = np.asarray(image).reshape(-1, 3)
    assert (np.ptp(colours, axis=0) <= 3).all()  # JPEG may waver
    return tuple(map(int, colours[0]))


def test_every_kind_of_picture_becomes_rgb_of_the_same_colour():
    red, size = (200, 30, 60), (16, 16)
    rgb = Image.new("RGB", size, red)
    assert flat_colour(saved(rgb)) == red
    assert flat_colour(saved(rgb.convert("P", palette=Image.Palette.ADAPTIVE))) == red
    assert flat_colour(saved(rgb, "GIF")) == red
    assert np.allclose(flat_colour(saved(rgb.convert("CMYK"), "JPEG", quality=95)), red, atol=6)
    assert flat_colour(saved(Image.new("RGBA", size, (*red, 255)))) == red
    assert flat_colour(saved(Image.new("RGBA", size, (*red, 0)))) == (255, 255, 255)
    assert np.allclose(flat_colour(saved(Image.new("RGBA", size, (*red, 128)))), np.add(red, 255) / 2, atol=1.5)
    assert flat_colour(saved(Image.new("LA", size, (90, 255)))) == (90, 90, 90)
    assert flat_colour(saved(Image.new("LA", size, (90, 0)))) == (255, 255, 255)
    assert flat_colour(saved(Image.new("L", size, 90))) == (90, 90, 90)
    assert flat_colour(saved(Image.new("1", size, 1))) == (255, 255, 255)
    palette = Image.new("P", size, 1)
    palette.putpalette([0, 0, 0, *red])
    assert flat_colour(saved(palette, transparency=1)) == (255, 255, 255)
    assert flat_colour(saved(palette, transparency=0)) == red


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(format):
    grey = Image.fromarray(np.full((8, 8), 0x8040, dtype=np.uint16))
    assert flat_colour(saved(grey, format)) == (128, 128, 128)


def test_pixels_without_a_known_range_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"Cannot read image 'a.tif' .*pixels of mode 'F' have no known range"):
        load_dataset(f"folder:{tmp_path}")[0]


def test_the_emoji_set():
    sets = {split: load_dataset(f"emoji:{split}") for split in ("test", "validation", "train-sample")}
    assert load_dataset("emoji").ids == sets["test"].ids == load_dataset("emoji:").ids
    assert len({tuple(data.classnames) for data in sets.values()}) == 1
    ids = [i for data in sets.values() for i in data.ids]
    assert len(set(ids)) == len(ids)  # no drawing in two splits
    for data in sets.values():
        assert len(data.notes["family"]) == len(data)
        assert sorted(set(data.labels)) == list(range(len(data.classnames)))  # every class has images
    test = sets["test"]
    assert {len(test) // len(test.classnames)} == set(np.bincount(test.labels))
    assert [c["classname"] for c in test.notes["classes"]] == test.classnames
    image, label = test[len(test) - 1]
    assert image.mode == "RGB" and label == test.labels[-1]


def test_a_subset_of_emoji_keeps_its_families():
    data = load_dataset("emoji")
    some = data.take([5, 700, 1500])
    assert some.notes["family"] == [data.notes["family"][i] for i in (5, 700, 1500)]
    assert some.notes["classes"] is data.notes["classes"]
    assert np.array_equal(np.asarray(some[2][0]), np.asarray(data[1500][0]))


@pytest.fixture
def shards(tmp_path):
    """Two tar shards of three samples with .cls files and one without; classnames.txt beside them."""

    def write(name, samples):
        with tarfile.open(tmp_path / name, "w") as archive:
            for key, grey, label in samples:
                file = io.BytesIO()
                Image.new("L", (8, 8), grey).save(file, "PNG")
                for suffix, content in (
                    ("png", file.getvalue()),
                    ("cls", None if label is None else str(label).encode()),
                ):
                    if content is not None:
                        info = tarfile.TarInfo(f"{key}.{suffix}")
                        info.size = len(content)
                        archive.addfile(info, io.BytesIO(content))

    write("a-0.tar", [("000", 10, 1), ("001", 20, 0)])
    write("a-1.tar", [("000", 30, 1), ("001", 40, None)])
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    return tmp_path, write


def test_webdataset(shards):
    folder, _ = shards
    data = load_dataset(f"webdataset:{folder}/a-*.tar")
    assert data.classnames == ["cat", "dog"] and data.labels.tolist() == [1, 0, 1, -1] and len(set(data.ids)) == 4
    assert [image.getpixel((0, 0))[0] for image, _ in data] == [10, 20, 30, 40]


def test_wrong_webdatasets_are_reported(shards):
    folder, write = shards
    refuses(f"webdataset:{folder}/b-*.tar", f"Expected tar shards for 'webdataset:{folder}/b-*.tar', found none")
    for label, text in (
        (2, "Expected `labels in "),
        (-3, "Expected `labels in "),
        ("dog", f"Cannot read {folder}/c.tar as "),
    ):
        write("c.tar", [("000", 10, label)])
        refuses(f"webdataset:{folder}/c.tar", text)
    (folder / "c.tar").write_bytes(b"no tar")
    refuses(
        f"webdataset:{folder}/c.tar", f"Cannot read {folder}/c.tar as an uncompressed tar of images and .cls numbers: "
    )
    with tarfile.open(folder / "c.tar", "w:gz"):
        pass
    refuses(f"webdataset:{folder}/c.tar", f"Cannot read {folder}/c.tar as an uncompressed tar")
    (folder / "classnames.txt").unlink()
    refuses(
        f"webdataset:{folder}/a-*.tar", f"Expected a classname a line in {folder}/classnames.txt, found no such file"
    )


def test_a_torchvision_set_on_disk(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    pixels = np.repeat(np.array([10, 200], dtype=np.uint8)[:, None], 3072, axis=1)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels, "labels": [1, 0]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["air_plane", "dog"]}))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)  # the checksums are of the real files
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
    data = load_dataset(f"torchvision:CIFAR10:{tmp_path}")
    assert data.classnames == ["air plane", "dog"] and data.labels.tolist() == [1, 0]
    assert [image.getpixel((0, 0))[0] for image, _ in data] == [10, 200]


def test_wrong_torchvision_sets_are_reported(tmp_path):
    refuses(
        f"torchvision:CIFAR11:{tmp_path}",
        f"Unknown torchvision set 'CIFAR11' in 'torchvision:CIFAR11:{tmp_path}'; known: ",
    )
    refuses(
        f"torchvision:CIFAR10:{tmp_path}",
        f"Cannot open 'torchvision:CIFAR10:{tmp_path}': Dataset not found or corrupted.",
    )
    refuses(f"torchvision:ImageFolder:{tmp_path}", f"Cannot open 'torchvision:ImageFolder:{tmp_path}': ")
    refuses("torchvision:CIFAR10", "Expected an existing folder in 'torchvision:CIFAR10', got (nothing)")
    assert not list(tmp_path.iterdir())  # nothing was downloaded


def test_harder_views_are_seeded_and_keep_their_labels():
    test, hard = load_dataset("emoji").take(4), load_dataset("emoji:hard").take(12)
    assert hard.labels.tolist() == np.repeat(test.labels, 3).tolist()
    assert hard.notes["family"][3:6] == [test.notes["family"][1]] * 3
    again = load_dataset("emoji:hard")
    views = [np.asarray(hard[i][0]) for i in range(3)]
    assert all((view == np.asarray(again[i][0])).all() for i, view in enumerate(views))
    assert (views[0] != views[1]).any() and (views[0] != np.asarray(test[0][0])).any()


def test_unseen_concepts_share_no_name_with_the_class_list():
    unseen = load_dataset("emoji:unseen")
    assert len(unseen) >= len(unseen.classnames) > 100
    assert not {*unseen.classnames} & {*load_dataset("emoji").classnames}
