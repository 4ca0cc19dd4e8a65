"""The whole experiment: the rehearsal's planted answers, ImageNet's folders and what can be wrong with them, the
command."""

import hashlib
import json
import pickle
import shutil

import numpy as np
import open_clip
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR100

import clipnb
from clipnb import evaluate, prompt_vectors
from clipnb.cli import main
from clipnb.datasets import _imagenet as imagenet
from clipnb.datasets import open_imagenet
from clipnb.errors import InputError
from clipnb.paper import rehearsal, reproduce

KEPT = [*range(20), 657, 744, 836, 837, *range(900, 916)]  # 40 classes, the duplicates among them


# The rehearsal


@pytest.fixture(scope="module")
def rehearsed():
    return reproduce.rehearse(classes=100, per_class=20)


def test_every_planted_answer_is_found(rehearsed):
    assert [line for line in rehearsed["checks"] if not line["ok"]] == []
    what = [line["what"] for line in rehearsed["checks"]]
    assert {
        "duplicate names",
        "the ten worst, names repaired",
        "best templates by the weights of cmm",
        "worst_20_split_half of bare",
    } <= set(what)


def test_the_checks_can_fail(rehearsed):
    world = rehearsal.make_benchmark(100, 20)
    spoilt = json.loads(json.dumps(rehearsed, default=float))
    bare = spoilt["tables"]["repaired"][0]
    bare["right"][world.never_recognised[0]] = 20
    bare["accuracy_ci"] = bare["worst_20_split_half_ci"] = [0.99, 1.0]
    spoilt["flagged"]["repaired"] = []
    spoilt["duplicates"] = spoilt["duplicates"][1:]
    for row in spoilt["tables"]["repaired"]:
        if "weights" in row:
            row["weights"] = {t: 1 - w for t, w in row["weights"].items()}
    failed = {line["what"] for line in world.checks(spoilt) if not line["ok"]}
    assert failed >= {
        "duplicate names",
        "the ten worst, names repaired",
        "never recognised classes found without labels",
        "accuracy of bare",
        "worst_20_split_half of bare",
        "best templates by the weights of cmm",
    }


def test_the_true_accuracy_is_what_a_large_sample_shows():
    world = rehearsal.make_benchmark(classes=60, per_class=300, seed=3)
    classifier = prompt_vectors(world.model, world.repaired, ["{}"])[0]
    per_class = evaluate(world.images.vectors, classifier, world.images.labels).per_class_accuracy
    truth = world.true_accuracy("{}", repaired=True)
    assert (
        np.abs(per_class - truth).max() < 0.13 and abs(per_class.mean() - truth.mean()) < 0.02
    )  # 300 images: sd below 0.03, and the noise


def test_a_world_is_a_matter_of_its_seed():
    one, same, other = (rehearsal.make_benchmark(classes=40, per_class=2, seed=seed) for seed in (1, 1, 2))
    assert (
        np.array_equal(one.images.vectors, same.images.vectors)
        and one.model.text_fingerprint == same.model.text_fingerprint
    )
    assert one.model.text_fingerprint != other.model.text_fingerprint  # what a cache of text vectors goes by
    with pytest.raises(InputError, match="Expected `classes` between 40 and 1000, got 39"):
        rehearsal.make_benchmark(classes=39)


def test_the_pool_agrees_with_the_small_ensembles_and_finds_the_best_templates():
    world = rehearsal.make_benchmark(classes=60, per_class=10)
    bank = prompt_vectors(world.model, world.repaired, world.templates)
    _results, weights = reproduce.pool_results(world.images.vectors, bank, world.images.labels)
    for row in ("pool-zpe", "pool-cmm"):
        assert sorted(np.argsort(weights[row])[-2:]) == sorted(world.best)
    blind = reproduce.pool_results(world.images.vectors, bank, np.full(len(world.images), -1))[1]
    assert all(np.array_equal(weights[row], blind[row]) for row in weights)  # no label takes part


# ImageNet's folders


@pytest.fixture
def small(monkeypatch):
    """ImageNet with 40 of its synsets."""
    ids, names, classnames = imagenet.synsets(), imagenet.synset_names(), list(open_clip.IMAGENET_CLASSNAMES)
    monkeypatch.setattr(imagenet, "synsets", lambda: tuple(ids[c] for c in KEPT))
    monkeypatch.setattr(imagenet, "synset_names", lambda: tuple(names[c] for c in KEPT))
    monkeypatch.setattr(open_clip, "IMAGENET_CLASSNAMES", [classnames[c] for c in KEPT])
    return imagenet.synsets()


def write_pictures(root, ids, per_class=2, name="ILSVRC2012_val_{number:08}.JPEG"):
    """Generated JPEGs, one colour a class, in a folder a synset; numbered across classes as ImageNet's are."""
    rng = np.random.default_rng(0)
    numbers = iter(rng.permutation(len(ids) * per_class) + 1)
    for synset in ids:
        (root / synset).mkdir(parents=True)
        colour = rng.integers(0, 256, 3)
        for _ in range(per_class):
            pixels = np.clip(colour + rng.normal(0, 20, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / synset / name.format(number=next(numbers), synset=synset), quality=90)
    return root


def write_devkit(root, pictures, ids):
    """A development kit that says what the folders say; its own numbers run in another order than the ids."""
    kit = root / imagenet.DEVKIT / "data"
    kit.mkdir(parents=True)
    table = np.array(
        [(i, name) for i, name in enumerate(reversed(ids), start=1)], dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")]
    )
    savemat(kit / "meta.mat", {"synsets": table})
    number = {name: i for i, name in enumerate(reversed(ids), start=1)}
    truth = {int(file.stem[-8:]): number[file.parent.name] for file in pictures.glob("*/*.JPEG")}
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{truth[i]}\n" for i in sorted(truth)))


@pytest.fixture
def folder(small, tmp_path):
    return write_pictures(tmp_path / "val", small)


def refused(path, text, **options):
    with pytest.raises(InputError, match=text) as caught:
        open_imagenet(path, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value).replace(str(path), "")) < 380


@pytest.mark.parametrize("kind", ["imagenet", "imagenet-partial"])
def test_every_command_refuses_the_same_folders_with_the_same_words(folder, small, kind):
    partial = kind == "imagenet-partial"
    if partial:
        (folder / small[0]).rename(folder / "n99999999")
    messages = set()
    for read in (
        lambda: open_imagenet(folder, partial),
        lambda: clipnb.load_dataset(f"{kind}:{folder}"),
        lambda: reproduce.run(folder, partial=partial),
        lambda: reproduce.run(dataset=f"{kind}:{folder}"),
    ):
        with pytest.raises(InputError) as caught:
            read()
        messages.add(str(caught.value))
    assert len(messages) == 1 and ("1 missing: n01440764 (tench)" if partial else "2 of n01440764") in messages.pop()


def test_images_under_any_suffix_are_read_and_the_rest_is_counted(folder, small):
    first = next((folder / small[0]).iterdir())
    Image.open(first).save(first.with_suffix(".png"))
    first.unlink()
    (folder / small[1] / ".DS_Store").touch()
    (folder / "valprep.sh").touch()
    data = open_imagenet(folder, partial=True)
    assert (
        len(data) == 80
        and data.exif_rotation == "ignored"
        and sorted(data.left_out) == ["files that are not images", "hidden files and leftovers of systems or archives"]
    )


def test_all_thousand_classes_open(tmp_path):
    data = open_imagenet(write_pictures(tmp_path / "val", imagenet.synsets(), per_class=1), partial=True)
    assert len(data) == 1000 and data.labels.tolist() == list(range(1000))
    assert (data.classnames[0], data.classnames[999], data.ids[999][:9]) == ("tench", "toilet paper", "n15075141")


def test_the_layouts_are_the_same_set(folder, small, tmp_path):
    by_synset = open_imagenet(folder, partial=True)
    above = open_imagenet(tmp_path, partial=True)  # torchvision's layout: val/ below
    write_devkit(tmp_path, folder, small)
    with_kit = open_imagenet(folder, partial=True)
    flat = tmp_path / "flat" / "ILSVRC2012_img_val"
    flat.mkdir(parents=True)
    for file in folder.glob("*/*.JPEG"):
        shutil.copy(file, flat)
    shutil.copytree(tmp_path / imagenet.DEVKIT, tmp_path / "flat" / imagenet.DEVKIT)
    listed = open_imagenet(tmp_path / "flat", partial=True)
    names = [name.split("/")[1] for name in by_synset.ids]
    assert above.ids == with_kit.ids == by_synset.ids and listed.ids == names
    assert all(np.array_equal(by_synset.labels, other.labels) for other in (above, with_kit, listed))
    assert listed[3][0].size == (48, 40)
    shutil.rmtree(tmp_path / "flat" / imagenet.DEVKIT)
    shutil.rmtree(tmp_path / imagenet.DEVKIT)
    refused(
        tmp_path / "flat",
        r"Expected the development kit \(ILSVRC2012_devkit_t12\) beside .*ILSVRC2012_img_val, got no such folder: "
        r"nothing says which synset ILSVRC",
    )


def test_wrong_folders_each_have_their_message(folder, small, tmp_path):
    first, second = small[:2]
    refused(tmp_path / "nowhere", "Expected a folder with ImageNet's validation images, got .*nowhere")
    refused(
        folder,
        r"Expected 50 images of each synset in .*val, got another number for 40: 2 of n01440764, 2 of n01443537, "
        r".* and 37 more; --partial or imagenet-partial:PATH accepts",
    )
    (folder / first).rename(tmp_path / "aside")
    refused(folder, r"Expected 40 synset folders in .*val, 1 missing: n01440764 \(tench\)$", partial=True)
    (folder / "n99999999").mkdir()
    refused(folder, r"1 missing: n01440764 \(tench\); and 1 too many: n99999999$", partial=True)
    (tmp_path / "aside").rename(folder / first)
    refused(
        folder, r"Expected 40 synset folders in .*val, got 1 too many: n99999999; move them elsewhere", partial=True
    )
    (folder / "n99999999").rmdir()
    pictures = list((folder / second).iterdir())
    for picture in pictures:
        picture.rename(tmp_path / picture.name)
    refused(folder, r"Expected images of every synset in .*val, none of 1: n01443537 \(goldfish\)", partial=True)
    (tmp_path / pictures[0].name).rename(folder / second / "n01443537_10007.JPEG")
    refused(
        folder,
        r"Expected validation images in .*val, got the training set: n01443537/n01443537_10007.JPEG is named like one",
        partial=True,
    )


def test_the_training_set_alone_and_strange_folders(small, tmp_path):
    (tmp_path / "train" / "n01440764").mkdir(parents=True)
    refused(tmp_path, "Expected the validation images in .*, got the training set only")
    (tmp_path / "by name" / "tench").mkdir(parents=True)
    refused(
        tmp_path / "by name",
        r"Expected folders named by synset id \(n01440764 ...\) or ILSVRC2012_val_\*.JPEG in .*by name, got: tench",
    )


def swap(folder, first, second):
    (folder / first).rename(folder / "aside")
    (folder / second).rename(folder / first)
    (folder / "aside").rename(folder / second)


def test_swapped_folders_are_found_by_the_kit_or_by_file_names(folder, small, tmp_path):
    write_devkit(tmp_path, folder, small)
    assert len(open_imagenet(folder, partial=True)) == 80
    swap(folder, *small[3:5])
    refused(
        folder,
        r"in the folder of its synset, got 4 elsewhere, as if folders were swapped: ILSVRC2012_val_\d+.JPEG is "
        r"in n01491361 and belongs to n01494475",
        partial=True,
    )
    other = write_pictures(tmp_path / "hf", small, name="ILSVRC2012_val_{number:08}_{synset}.JPEG")
    swap(other, *small[3:5])
    refused(other, "got 4 elsewhere, as if folders were swapped", partial=True)


def test_classnames_in_another_order_are_refused(small, folder, monkeypatch):
    names = list(open_clip.IMAGENET_CLASSNAMES)
    monkeypatch.setattr(open_clip, "IMAGENET_CLASSNAMES", [names[1], names[0], *names[2:]])
    refused(
        folder,
        "Expected classname 0 to be that of n01440764 .*, got 'goldfish', which is n01443537: the classnames are "
        "not in the order",
        partial=True,
    )
    monkeypatch.setattr(open_clip, "IMAGENET_CLASSNAMES", names[1:])
    refused(folder, "Expected 40 classnames, one a synset, got 39", partial=True)


def test_a_broken_kit_is_named(folder, small, tmp_path):
    write_devkit(tmp_path, folder, small)
    (tmp_path / imagenet.DEVKIT / "data" / "meta.mat").write_bytes(b"no mat")
    refused(folder, "Cannot read the development kit in .*data: ", partial=True)


@pytest.mark.parametrize(
    "spoil", [lambda content: b"", lambda content: b"text", lambda content: content[: len(content) // 2]]
)
def test_one_corrupt_jpeg_among_many_is_named(folder, small, spoil):
    data = open_imagenet(folder, partial=True)
    imagenet.check_readable(data)
    broken = next((folder / small[7]).iterdir())
    broken.write_bytes(spoil(broken.read_bytes()))
    with pytest.raises(
        InputError,
        match=f"Expected 80 images that can be read in imagenet:.*, got 1 that cannot: {small[7]}/{broken.name} ",
    ):
        imagenet.check_readable(data)


# The command


@pytest.fixture
def command(tiny, tiny_weights, tmp_path):
    templates = tmp_path / "templates.txt"
    templates.write_text("{}\na photo of a {}.\nart of the {}.\n")

    def run(*arguments):
        model = (
            ()
            if "--check" in arguments
            else ("--model", "tiny-clip", "--pretrained", tiny_weights, "--templates", templates)
        )
        return CliRunner().invoke(main, ["reproduce", *map(str, (*arguments, *model))])

    return run


def test_the_command_makes_the_whole_table(command, folder, small, tmp_path):
    texts = {
        name: [f"{name}, seen from {side}" for side in ("above", "below")] for name in open_clip.IMAGENET_CLASSNAMES
    }
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    out = tmp_path / "out.json"
    result = command(
        "--imagenet",
        folder,
        "--partial",
        "--no-pool",
        "--descriptions",
        tmp_path / "texts.json",
        "--store",
        tmp_path / "store",
        "--json",
        out,
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(out.read_text())
    rows = {spelling: [row["method"] for row in rows] for spelling, rows in found["tables"].items()}
    assert rows["as named"] == rows["repaired"] and {
        "bare",
        "single",
        "uniform",
        "zpe",
        "autoclip",
        "cmm",
        "cmm-half",
        "greedy",
        "oracle",
        "descriptions",
        "random",
        "shuffled",
    } <= set(rows["as named"])
    assert [(twin["classname"], twin["repaired name"]) for twin in found["duplicates"]] == [
        ("missile", "missile"),
        ("missile", "projectile"),
        ("sunglasses", "sunglasses"),
        ("sunglasses", "dark glasses"),
    ]
    assert [twin["accuracy"] for twin in found["duplicates"]][1::2] == [0, 0]
    for row in found["tables"]["as named"]:
        assert (
            sum(row["right"]) == pytest.approx(row["accuracy"] * 80)
            and 0 <= row["worst_10"] <= row["worst_20"] <= row["accuracy"] + 1e-9
        )
        assert row["worst_10_split_half_ci"] and row["harmonic_mean"] <= row["geometric_mean"] + 1e-9
    assert [step["step"] for step in found["steps"]][:3] == ["open and check", "load the model", "encode images"]
    assert {line["verdict"] for line in found["published"]} == {"not comparable"} and not found["complete"]
    assert "worst-20 %" in result.stdout and "duplicates:" in result.stdout and "steps:" in result.stdout
    again = command("--check", out)
    assert again.exit_code == 1 and "not comparable" in again.stdout


def test_a_wrong_folder_stops_the_command_before_encoding(command, folder, small, monkeypatch, tmp_path):
    monkeypatch.setattr("clipnb.paper.reproduce.load_model", lambda *_: pytest.fail("a model was loaded"))
    next((folder / small[0]).iterdir()).write_bytes(b"no JPEG")
    for arguments, text in (
        ((), "Expected 50 images of each synset"),
        (("--partial",), "got 1 that cannot: n01440764/"),
    ):
        result = command("--dataset", f"imagenet:{folder}", "--json", tmp_path / "out.json", *arguments)
        assert result.exit_code == 2 and text in result.stderr and result.stderr.count("\n") == 1
        assert not (tmp_path / "out.json").exists()


def test_a_torchvision_set_gets_the_same_table(command, tmp_path):
    names = [f"class_{c}" for c in range(100)]
    folder, rng = tmp_path / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir()
    content = {"data": rng.integers(0, 256, (200, 3072), dtype=np.uint8), "fine_labels": list(range(100)) * 2}
    for name, part in (("train", content), ("test", content), ("meta", {"fine_label_names": names})):
        (folder / name).write_bytes(pickle.dumps(part))

    def digest(name):
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    with pytest.MonkeyPatch.context() as patch:  # torchvision knows the real set by these
        patch.setattr(CIFAR100, "train_list", [["train", digest("train")]])
        patch.setattr(CIFAR100, "test_list", [["test", digest("test")]])
        patch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": digest("meta")})
        result = command("--dataset", f"torchvision:CIFAR100:{tmp_path}", "--no-pool", "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["images"] == 200 and found["classes"] == 100 and list(found["tables"]) == ["as named"]
    assert found["classnames"]["as named"][7] == "class 7" and "worst_50" in found["tables"]["as named"][0]


def test_one_source_has_to_be_named(command):
    for arguments in ((), ("--rehearsal", "--dataset", "emoji")):
        result = command(*arguments)
        assert result.exit_code == 2 and "Expected one of --imagenet, --dataset, --rehearsal, --check" in result.stderr


# The check


def made_up(right):
    """Results as of a complete run with OpenAI's ViT-B/16, each class of 1,000 having that many of its 50 right."""
    right = np.asarray(right)
    zero, accuracy = int((right == 0).sum()), right.sum() / 50_000
    row = {
        "method": "bare",
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.004, accuracy + 0.004],
        "classes_at_zero": zero,
        "classes_at_zero_ci": [zero - 6, zero + 6],
        "worst_10": 0.0,
        "worst_10_ci": None,
        "right": right.tolist(),
    }
    return {
        "format": reproduce.FORMAT,
        "model": "ViT-B-16",
        "pretrained": "openai",
        "dataset": "imagenet:val",
        "complete": True,
        "templates": [],
        "images": 50_000,
        "images_per_class": [50] * 1000,
        "tables": {"as named": [row]},
    }


def like_the_paper():
    right = np.full(1000, 32)
    right[:10], right[10:60] = 0, 39
    return made_up(right)  # 64.03 %


def test_a_run_like_the_papers_agrees_and_others_do_not(command, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(like_the_paper()))
    result = command("--check", path)
    assert (
        result.exit_code == 0
        and "agrees" in result.stdout
        and "64.10 %" not in result.stdout
        and "64.1 %" in result.stdout
    )
    path.write_text(json.dumps(made_up(np.full(1000, 35))))
    result = command("--check", path, "--json", "-")
    lines = {(line["score"], line["published"]): line["verdict"] for line in json.loads(result.stdout)["published"]}
    assert result.exit_code == 1 and lines["accuracy", 0.641] == lines["classes_at_zero", 10] == "differs"
    other = like_the_paper() | {"pretrained": "laion2b"}
    path.write_text(json.dumps(other))
    assert command("--check", path).exit_code == 1


def test_both_names_of_openais_model_are_compared_with_the_published_figures():
    for name in ("ViT-B-16", "ViT-B-32", "ViT-L-14"):
        plain, quick = (
            reproduce.compare_published(like_the_paper() | {"model": model}) for model in (name, f"{name}-quickgelu")
        )
        assert plain == quick
    assert {
        line["verdict"] for line in reproduce.compare_published(like_the_paper() | {"model": "ViT-B-16-quickgelu"})
    } == {"agrees", "not run", "no interval"}
    other = reproduce.compare_published(like_the_paper() | {"model": "ViT-H-14-quickgelu"})
    assert {line["verdict"] for line in other} == {"not comparable", "not run"}


def test_ten_thousand_images_are_not_comparable_whatever_the_file_says():
    tenth = like_the_paper() | {"images": 10_000, "images_per_class": [10] * 1000}
    assert {line["verdict"] for line in reproduce.compare_published(tenth)} <= {"not comparable", "not run"}
    assert "agrees" in {line["verdict"] for line in reproduce.compare_published(like_the_paper())}


def test_spoilt_results_are_refused(command, tmp_path):
    path, good = tmp_path / "results.json", like_the_paper()
    wrong = like_the_paper()
    wrong["tables"]["as named"][0]["accuracy"] = 0.7
    for content, text in (
        ("{", "JSONDecodeError"),
        (json.dumps(good | {"format": "other"}), "format 'other', expected 'clipnb-reproduce-1'"),
        (json.dumps(wrong), "the scores of row 'bare' do not follow from its counts"),
        ("[]", "TypeError"),
        (
            json.dumps({key: value for key, value in good.items() if key != "images_per_class"}),
            "KeyError: 'images_per_class'",
        ),
    ):
        path.write_text(content)
        result = command("--check", path)
        assert result.exit_code == 2 and text in result.stderr and result.stderr.count("\n") == 1
