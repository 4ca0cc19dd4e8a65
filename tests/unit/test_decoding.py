"""JPEG files decoded on the model's device: torchcodec on a CPU here, the same calls on a GPU."""

import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from clipnb import InputError, encode_images, load_dataset
from clipnb.cli import main
from clipnb.encode._readers import DevicePixels
from clipnb.models import Preprocess


def photo(seed: int, mode: str = "RGB", size: tuple[int, int] | None = None) -> Image.Image:
    """Smooth, as photographs are: on pure noise two decoders agree less."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize(size or (60 + seed, 45), Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def photos(tmp_path):
    """Three classes of JPEG files; one each is grey, CMYK and a PNG."""
    for label, name in enumerate("abc"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            photo(6 * label + i).save(tmp_path / "photos" / name / f"{i}.jpg", quality=90, progressive=i == 4)
    photo(1, "L").save(tmp_path / "photos" / "a" / "1.jpg")
    photo(2, "CMYK").save(tmp_path / "photos" / "a" / "2.jpg")
    (tmp_path / "photos" / "b" / "3.jpg").unlink()
    photo(9).save(tmp_path / "photos" / "b" / "3.png")
    return tmp_path / "photos"


def test_both_decoders_give_nearly_the_same_pixels_and_vectors(tiny, photos):
    data = load_dataset(f"folder:{photos}")
    reader = DevicePixels(data, tiny)
    items = [reader[i] for i in range(len(data))]
    assert [isinstance(read, bytes) for _, read, _ in items] == [
        data.ids[i] not in ("a/2.jpg", "b/3.png") for i in range(len(data))
    ]
    good, pixels, bad = reader.finish(items)
    assert good == list(range(len(data))) and not bad
    exact = [tiny.preprocess(image) for image, _ in data]
    level = 1 / 255 / 0.27  # of what is normalised
    assert all(
        float((a - b).abs().max()) < 6 * level and float((a - b).abs().mean()) < level for a, b in zip(pixels, exact)
    )
    one, other = (encode_images(tiny, data, decoder=name, batch_size=5) for name in ("pillow", "device"))
    assert one.ids == other.ids and np.allclose(one.vectors, other.vectors, atol=0.02)
    assert (one.provenance["decoder"], other.provenance["decoder"]) == ("pillow", "device")
    few = encode_images(tiny, data.take([7, 2]), decoder="device", workers=1)
    assert few.ids == [data.ids[7], data.ids[2]] and np.allclose(few.vectors, other.vectors[[7, 2]], atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_files_are_reported_as_by_pillow(tiny, photos, workers):
    whole = (photos / "a" / "0.jpg").read_bytes()
    (photos / "a" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "c" / "5.jpg").write_bytes(b"")
    data = load_dataset(f"folder:{photos}")
    one, other = (
        encode_images(tiny, data, decoder=name, bad_images="skip", workers=workers, batch_size=4)
        for name in ("pillow", "device")
    )
    assert one.skipped == other.skipped and set(other.skipped) == {"a/0.jpg", "c/5.jpg"} and len(other) == len(data) - 2
    with pytest.raises(InputError, match=r"^Cannot read image 'a/0.jpg' of folder:.*truncated"):
        encode_images(tiny, data, decoder="device", workers=workers)


def test_a_store_keeps_to_one_decoder(tiny_weights, photos, tmp_path):
    options = [
        "encode",
        "--model",
        "tiny-clip",
        "--pretrained",
        str(tiny_weights),
        "--dataset",
        f"folder:{photos}",
        "--store",
        str(tmp_path / "s"),
    ]
    assert CliRunner().invoke(main, [*options, "--decoder", "device"]).exit_code == 0
    for command in ("encode", "margin"):  # which decoder is the store's to know
        assert CliRunner().invoke(main, [command, *options[1:]]).exit_code == 0
    refused = CliRunner().invoke(main, [*options, "--decoder", "pillow"])
    assert refused.exit_code == 2 and "decoder" in refused.stderr and refused.stderr.count("\n") == 1


def test_what_cannot_decode_is_reported(tiny, photos, monkeypatch):
    import dataclasses

    data = load_dataset(f"folder:{photos}")
    with pytest.raises(InputError, match=r"^Expected `decoder` to be"):
        encode_images(tiny, data, decoder="nvjpeg")
    with pytest.raises(
        InputError,
        match=r"Expected the preprocessing of tiny-clip to be torchvision's transforms for the decoder 'device', got "
        "another; leave the decoder out$",
    ):
        encode_images(dataclasses.replace(tiny, preprocess=lambda image: None), data, decoder="device")
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(
        InputError,
        match=r"^Expected torchcodec for the decoder 'device', it cannot be imported; pip install 'clipnb\[gpu\]'$",
    ):
        encode_images(tiny, data, decoder="device")


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_preprocessing_equals_open_clips_up_to_a_few_levels(mode, interpolation):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    for size in (96, (96, 64)):
        cfg = PreprocessCfg(size=size, resize_mode=mode, interpolation=interpolation)
        composed = image_transform_v2(cfg, is_train=False)
        preprocess = Preprocess(composed.transforms)
        assert preprocess.takes_tensors == (mode == "squash" or (mode == "shortest" and size == 96))
        for shape in ((500, 375), (151, 240), (96, 96), (40, 64), (700, 100)):
            image = photo(3, size=shape)
            expected, found = composed(image), preprocess(image)
            levels = (expected - found).abs() * torch.tensor(cfg.std).view(3, 1, 1) * 255
            assert found.shape == expected.shape and found.dtype == torch.float32
            assert levels.max() < 3.5 and (levels > 0.5).float().mean() < 0.3
            assert torch.nn.functional.cosine_similarity(expected.flatten(), found.flatten(), 0) > 1 - 1e-4
