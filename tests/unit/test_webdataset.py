"""Tar shards as WebDataset and others write them."""

import io
import json
import re
import tarfile

import pytest
from PIL import Image

from clipnb import load_dataset
from clipnb.datasets._images import HIDDEN
from clipnb.datasets._webdataset import FURTHER, LINKS, NO_IMAGE
from clipnb.errors import InputError


def png(grey=10, **options):
    Image.new("L", (8, 4), grey).save(file := io.BytesIO(), "PNG", **options)
    return file.getvalue()


def write(path, *members):
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "classnames.txt").write_text("cat\ndog\n")
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return f"webdataset:{path}"


def labels(data):
    return dict(zip(data.ids, data.labels.tolist()))


def test_a_key_ends_at_the_first_dot_of_the_name_and_folders_may_have_dots(tmp_path):
    spec = write(
        tmp_path / "a.tar",
        ("v1.0/x/000.png", png()),
        ("v1.0/x/000.cls", b"1\n"),
        ("v1.0/x/001.JPEG", png()),
        ("v1.0/x/001.cls", b" 0 "),
        ("002.input.png", png()),
        ("002.cls", b"1"),
    )
    assert labels(load_dataset(spec)) == {"a.tar/v1.0/x/000": 1, "a.tar/v1.0/x/001": 0, "a.tar/002.input": 1}


def test_names_with_dots_are_samples_of_their_own(tmp_path):
    spec = write(
        tmp_path / "a.tar",
        *((f"img.{i}.{suffix}", content) for i in range(2) for suffix, content in (("png", png()), ("cls", b"%d" % i))),
    )
    assert labels(load_dataset(spec)) == {"a.tar/img.0": 0, "a.tar/img.1": 1}


def test_labels_in_json(tmp_path):
    spec = write(
        tmp_path / "a.tar",
        ("0.png", png()),
        ("0.json", json.dumps({"label": 1}).encode()),
        ("1.png", png()),
        ("1.json", b'{"cls": "cat"}'),
        ("2.png", png()),
        ("2.json", b'{"caption": "x"}'),
        ("3.json", b'{"label": 1}'),
        ("3.cls", b"0"),
        ("3.png", png()),
    )
    data = load_dataset(spec)
    assert data.labels.tolist() == [1, 0, -1, 0] and data.left_out == {}
    spec = write(tmp_path / "b.tar", ("0.png", png()), ("0.json", b'{"label": "bird"}'))
    with pytest.raises(
        InputError, match=r"^Cannot read .*b.tar as .*'bird' is neither a class index nor a line of classnames.txt$"
    ):
        load_dataset(spec)


def test_what_is_no_sample_is_counted(tmp_path):
    spec = write(
        tmp_path / "a.tar",
        ("0.jpg", png()),
        ("0.seg.png", png()),
        ("0.cls", b"1"),
        ("._0.jpg", png()),
        ("__MACOSX/0.jpg", png()),
        ("9.cls", b"1"),
    )
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0.jpg"
        archive.addfile(link)
    data = load_dataset(spec)
    assert labels(data) == {"a.tar/0": 1}
    assert data.left_out == {
        HIDDEN: ["a.tar/._0.jpg", "a.tar/__MACOSX/0.jpg"],
        LINKS: ["a.tar/1.png"],
        FURTHER: ["a.tar/0.seg"],
        NO_IMAGE: ["a.tar/9.cls"],
    }


def test_patterns_with_braces(tmp_path):
    for i in (8, 9, 10):
        write(tmp_path / f"a-{i:03}.tar", ("0.png", png()))
    assert load_dataset(f"webdataset:{tmp_path}/a-{{008..010}}.tar").ids == [f"a-{i:03}.tar/0" for i in (8, 9, 10)]
    assert len(load_dataset(f"webdataset:{tmp_path}/a-{{009,010}}.tar")) == 2
    with pytest.raises(InputError, match=r"^Expected all tar shards of .*, found no .*a-011.tar$"):
        load_dataset(f"webdataset:{tmp_path}/a-{{008..011}}.tar")


def test_shards_of_one_name_in_two_folders(tmp_path):
    for name in "ab":
        write(tmp_path / name / "0.tar", ("0.png", png()))
    assert load_dataset(f"webdataset:{tmp_path}/*/0.tar").ids == ["a/0.tar/0", "b/0.tar/0"]


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_shard_that_is_cut_off_or_damaged_is_refused(tmp_path, at):
    spec = write(tmp_path / "a.tar", *((f"{i}.png", png()) for i in range(6)))
    content = (tmp_path / "a.tar").read_bytes()
    used = 6 * 1024
    (tmp_path / "a.tar").write_bytes(content[: int(used * at) // 512 * 512 + 100])
    with pytest.raises(InputError, match=r"^Cannot read .*a.tar as an uncompressed tar"):
        load_dataset(spec)
    damaged = bytearray(content)
    start = int(6 * at) * 1024
    damaged[start : start + 512] = b"\xff" * 512
    (tmp_path / "a.tar").write_bytes(damaged)
    with pytest.raises(InputError, match=r"^Cannot read .*a.tar as an uncompressed tar"):
        load_dataset(spec)


def test_a_compressed_shard_is_refused_with_the_way_out(tmp_path):
    import gzip

    write(tmp_path / "a.tar", ("0.png", png()))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(InputError, match=re.escape("it is compressed; unpack it once (gunzip, unzstd ...)")):
        load_dataset(f"webdataset:{tmp_path}/a.tar.gz")


def test_images_are_turned(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 6
    assert load_dataset(write(tmp_path / "a.tar", ("0.png", png(exif=tag))))[0][0].size == (4, 8)
