import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from clipnb.cli import main


@pytest.fixture
def clipnb(tiny_weights, pictures):
    """Run a command on the tiny model and the three classes of images, unless the arguments say otherwise."""

    def run(
        *arguments, dataset=f"folder:{pictures}", model=("--model", "tiny-clip", "--pretrained", str(tiny_weights))
    ):
        fixed = [*model, "--dataset", dataset] if arguments[0] in ("encode", "evaluate", "margin", "ensemble") else []
        return CliRunner().invoke(main, [arguments[0], *fixed, *map(str, arguments[1:])])

    return run


def done(result):
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def refused(result, text):
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr, result.stderr
    assert re.match("clipnb: " + text, result.stderr), result.stderr


def strict(text):
    def no(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=no)


def test_evaluate_writes_the_same_json_to_a_file_and_to_stdout(clipnb, tmp_path):
    table = done(clipnb("evaluate", "--json", tmp_path / "out.json"))
    found = strict((tmp_path / "out.json").read_text("utf-8"))
    assert found == strict(done(clipnb("evaluate", "--json", "-")))
    assert found["model"] == "tiny-clip" and found["n"] == 12 and found["classes"] == 3 and found["chance"] == 1 / 3
    for name in ("accuracy", "recall_at_5", "mean_per_class_accuracy", "classes_at_zero"):
        low, high = found[f"{name}_ci"]
        assert low <= found[name] <= high
        assert re.search(rf"^{name} .*\[", table, re.M)
    for name in ("worst_10", "worst_10_split_half", "harmonic_mean", "geometric_mean"):  # no interval, of 12 images
        assert 0 <= found[name] <= 1 and found[f"{name}_ci"] is None
    assert (
        found["worst_10_truly_worst"] is None and len(found["worst_10_truly_worst_ci"]) == 2
    )  # four images a class: a range only
    assert "worst classes are right on" in table and "With so few images a class" in table
    assert (found["worst_k"], found["worst_k_classes"]) == (10, 3)  # the name stays, whatever the number of classes
    assert [row["images"] for row in found["worst_classes"]] == [4, 4, 4]
    assert {row["classname"] for row in found["worst_classes"]} == {"cat", "dog", "fire truck"}
    accuracies = [row["accuracy"] for row in found["worst_classes"]]
    assert accuracies == sorted(accuracies) and np.mean(accuracies) == pytest.approx(found["accuracy"])
    assert all(row["top_rival"] != row["classname"] for row in found["worst_classes"])
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["out.json"]


def test_numbers_are_those_of_the_library(clipnb, tiny, pictures):
    from clipnb import encode_images, evaluate, load_dataset, zero_shot_classifier

    data = load_dataset(f"folder:{pictures}")
    templates = ["{}", "a photo of a {}."]
    result = evaluate(
        encode_images(tiny, data).vectors, zero_shot_classifier(tiny, data.classnames, templates), data.labels
    )
    (pictures.parent / "templates.txt").write_text("\ufeff{}\n\na photo of a {}.\n", "utf-8")
    found = strict(
        done(clipnb("evaluate", "--templates", pictures.parent / "templates.txt", "--worst", "1", "--json", "-"))
    )
    expected = json.loads(json.dumps(result.summary(k=1)))
    assert {key: found[key] for key in expected} == expected and found["num_templates"] == 2
    assert len(found["worst_classes"]) == 1 and found["model_fingerprint"] == tiny.fingerprint


def test_what_is_odd_about_the_names_is_said_before_the_scores(clipnb, pictures, tmp_path):
    assert strict(done(clipnb("evaluate", "--json", "-")))["lint"] == []
    (pictures / "cat").rename(pictures / "dogs")
    templates = tmp_path / "templates.txt"
    templates.write_text("{}\n" + "a very " * 80 + "good {}\n")
    result = clipnb("evaluate", "--templates", templates, "--json", "-")
    found = strict(result.stdout)["lint"]
    assert [finding["what"] for finding in found] == [
        "near-duplicate classname",
        "prompt longer than the model's context of 77 tokens",
    ]
    assert found[0]["where"] == ["0 'dog'", "1 'dogs'"] and len(found[1]["where"]) == 3
    lines = result.stderr.splitlines()
    assert result.exit_code == 0 and len(lines) == 2 and all(line.startswith("clipnb: ") for line in lines)
    assert lines[0] == "clipnb: near-duplicate classname: 0 'dog', 1 'dogs'; " + found[0]["advice"]
    assert "lint" not in clipnb("evaluate", "--templates", templates).stdout


def test_margin_needs_no_labels_and_is_checked_where_there_are(clipnb, pictures):
    found = strict(done(clipnb("margin", "--worst", 2, "--json", "-")))
    assert len(found["worst_by_margin"]) == 2 and found["images"] == 12 and found["reduction"] == "image"
    assert {"spearman_labels", "spearman_pseudo_labels", "worst_2_found"} <= set(found)
    values = [row["cmm"] for row in found["worst_by_margin"]]
    assert all((row["cmm"] is None) == (row["predicted"] == 0) for row in found["worst_by_margin"])
    assert values == sorted(values, key=lambda v: -np.inf if v is None else v)
    other = strict(done(clipnb("margin", "--reduction", "class", "--json", "-")))
    assert other["reduction"] == "class" and len(other["worst_by_margin"]) == 3
    done(clipnb("margin"))  # the table


def test_no_nan_in_the_json_of_two_classes_and_one_is_refused(clipnb, pictures):
    import shutil

    shutil.rmtree(pictures / "dog")
    for command in ("evaluate", "margin"):
        found = strict(done(clipnb(command, "--json", "-")))
    assert found["spearman_labels"] is None and found["spearman_labels_ci"] is None
    done(clipnb("margin"))
    shutil.rmtree(pictures / "cat")
    for command in ("evaluate", "margin", "ensemble"):
        refused(
            clipnb(command),
            r"Expected at least two classes in folder:\S+, got one \('fire truck'\): every answer would be right$",
        )


def test_encode_goes_on_and_is_read_back(clipnb, tmp_path, monkeypatch):
    from clipnb import Embeddings

    monkeypatch.setattr("clipnb.encode._images.SHARD_SIZE", 5)
    store = tmp_path / "store"
    first = strict(done(clipnb("encode", "--store", store, "--json", "-")))
    assert first["n"] == 12 and first["dimensions"] == 16 and len(Embeddings.load(store)) == 12
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    (store / "part-000000005.parquet").unlink()
    assert strict(done(clipnb("encode", "--store", store, "--json", "-"))) == first
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before
    monkeypatch.setattr("clipnb.models.Model.encode_pixels", None)  # no image is encoded again
    assert strict(done(clipnb("evaluate", "--store", store, "--json", "-")))["n"] == 12
    refused(
        clipnb("encode", "--store", store, dataset="emoji:validation"),
        r"The store \S+ belongs to something else \(dataset: ",
    )


def test_bad_images_stop_or_are_listed(clipnb, pictures, tmp_path):
    (pictures / "dog" / "0.png").write_bytes(b"")
    refused(clipnb("encode", "--store", tmp_path / "s"), "Cannot read image 'dog/0.png' of folder:")
    result = clipnb("encode", "--store", tmp_path / "s", "--bad-images", "skip", "--json", "-")
    found = strict(result.stdout)
    assert result.exit_code == 0 and (found["n"], found["encoded"], found["skipped"]) == (12, 11, 1)
    assert [bad["id"] for bad in found["bad_images"]] == ["dog/0.png"]
    line = "clipnb: skipped: Cannot read image 'dog/0.png' of folder:"
    assert result.stderr.startswith(line) and result.stderr.count("\n") == 1
    scored = clipnb("evaluate", "--store", tmp_path / "s", "--json", "-")  # and it is not forgotten later
    assert strict(scored.stdout)["n"] == 11 and scored.stderr.startswith(line)
    refused(clipnb("encode", "--store", tmp_path / "t", "--bad-images", "ignore"), "Invalid value for '--bad-images'")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["evaluat"], r"No such command 'evaluat'.* \(see `\w+ --help`\)$"),
        (["--bug", "evaluate"], "No such option '?--bug"),
        (["evaluate", "--bug"], r"No such option '?--bug.* \(see `\w+ evaluate --help`\)$"),
        (["evaluate", "--worst", "0"], "Invalid value for '--worst': 0 is not in the range x>=1"),
        (["evaluate", "--worst", "ten"], "Invalid value for '--worst': 'ten' is not a valid integer"),
        (["margin", "--reduction", "mean"], "Invalid value for '--reduction': 'mean' is not one of 'image', 'class'"),
        (["margin", "--worst", "-1"], "Invalid value for '--worst': -1 is not in the range x>=1"),
        (["encode"], "Missing option '--store'"),
        (["evaluate", "--templates", "many"], "Unknown template set 'many'; known: bare, single"),
        (["evaluate", "--device", "gpu"], "Device 'gpu' cannot be used here: .*; try auto or cpu$"),
        (["evaluate", "--precision", "int8"], "Expected `precision` to be one of 'fp32', 'bf16', 'fp16', got 'int8'"),
        (
            ["evaluate", "--json", "no/such/folder/out.json"],
            "Expected --json to name a file in an existing folder, got no/such/folder/out.json",
        ),
        (["evaluate", "--json", "."], "Expected --json to name a file in an existing folder, got ."),
        (["ensemble", "--temperature", "0"], "Expected `temperature` > 0, got 0.0"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(clipnb, arguments, text):
    refused(clipnb(*arguments), text)


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ("emojis", "Unknown data set 'emojis'; known: emoji, "),
        ("emoji:train", "Unknown split 'train' of the emoji set"),
        ("folder:/no/such", "Expected an existing folder in 'folder:/no/such', got /no/such"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "margin", "ensemble"])
def test_a_wrong_data_set_is_one_line_and_leaves_no_json(clipnb, tmp_path, command, dataset, text):
    refused(clipnb(command, "--json", tmp_path / "out.json", dataset=dataset), text)
    assert not (tmp_path / "out.json").exists()


def test_wrong_models_files_and_pictures(clipnb, pictures, tmp_path):
    out = tmp_path / "out.json"
    out.write_text("old")
    refused(
        clipnb("evaluate", "--json", out, model=("--model", "ViT-B32")), "Unknown model 'ViT-B32'; close: .*ViT-B-32"
    )
    refused(
        clipnb("evaluate", "--json", out, model=("--model", "ViT-B-32", "--pretrained", "x")),
        "Unknown weights 'x' for model 'ViT-B-32'",
    )
    refused(
        clipnb("evaluate", "--json", out, dataset=f"folder:{pictures / 'cat'}"),
        "Expected class folders or labels in folder:",
    )
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe{}")
    refused(
        clipnb("evaluate", "--json", out, "--templates", tmp_path / "t.txt"),
        r"Expected \S+t.txt to hold one template a line in UTF-8",
    )
    (tmp_path / "t.txt").write_text("a dog\n")
    refused(
        clipnb("evaluate", "--json", out, "--templates", tmp_path / "t.txt"),
        "Expected template 0 to have one slot {}, got 'a dog'",
    )
    (pictures / "dog" / "0.png").write_bytes(b"")
    refused(clipnb("evaluate", "--json", out), "Cannot read image 'dog/0.png' of folder:")
    assert out.read_text() == "old" and not list(tmp_path.glob(".*"))


def test_a_failed_run_is_one_line_and_exit_code_1(clipnb, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr("clipnb.models.Model.encode_pixels", fails)
    result = clipnb("evaluate", "--json", tmp_path / "out.json")
    assert result.exit_code == 1 and not (tmp_path / "out.json").exists()
    assert result.stderr == "clipnb: RuntimeError: out of memory (run again with `clipnb --debug` for details)\n"
    debug = CliRunner().invoke(main, ["--debug", "evaluate", "--dataset", "emojis"])
    assert "Unknown data set" in str(debug.exception) and debug.exit_code != 0


def test_check_says_ok_line_by_line(model):
    result = CliRunner().invoke(main, ["check"])
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and all(line.startswith("OK   ") for line in lines), result.output
    assert {"python", "clipnb", "torch", "open_clip_torch", "device", "model", "images"} <= {
        line[5:].split(":")[0] for line in lines
    }
    assert model.fingerprint in result.stdout


def test_check_says_what_fails(monkeypatch, tmp_path):
    monkeypatch.setattr("clipnb.models._loading.EMBEDDED_DIR", tmp_path)
    monkeypatch.setattr("clipnb.datasets._icons.ICONS_DIR", tmp_path)
    result = CliRunner().invoke(main, ["check"])
    failed = [line for line in result.stdout.splitlines() if line.startswith("FAIL ")]
    assert result.exit_code == 1 and [line.split(":")[0] for line in failed] == ["FAIL model", "FAIL images"]
    assert all(re.match("(OK  |FAIL) ", line) for line in result.stdout.splitlines()) and result.stderr == ""


@pytest.mark.parametrize("command", ["encode", "evaluate", "margin", "ensemble"])
def test_a_half_precision_is_reported_in_one_line(clipnb, tmp_path, command):
    options = {"encode": ["--store", tmp_path / "s"], "ensemble": ["--method", "uniform"]}.get(command, [])
    exact, half = (clipnb(command, *options, "--json", tmp_path / "x.json")), None
    assert done(exact) and "precision_check" not in strict((tmp_path / "x.json").read_text("utf-8"))
    options = ["--store", tmp_path / "half"] if command == "encode" else options
    half = clipnb(command, *options, "--precision", "bf16", "--json", tmp_path / "x.json")
    assert half.exit_code == 0
    line = r"clipnb: bf16 changes an estimated \d+\.\d\d % of predictions against fp32 \(12 images checked\)\n"
    assert re.fullmatch(line, half.stderr)
    found = strict((tmp_path / "x.json").read_text("utf-8"))
    assert (
        found["precision"] == "bf16"
        and found["precision_check"]["images"] == 12
        and 0 <= found["precision_check"]["changed_predictions"] <= 1
    )
    assert found["model_settings"]["activation"] == "GELU" and found["model_settings"]["resize_mode"] == "shortest"


@pytest.mark.slow
def test_audit_and_reproduce_report_the_precision_and_the_settings(tiny_weights, pictures, tmp_path):
    for command in (["audit"], ["reproduce", "--no-pool"]):
        options = [
            "--model",
            "tiny-clip",
            "--pretrained",
            str(tiny_weights),
            "--dataset",
            f"folder:{pictures}",
            "--precision",
            "fp16",
        ]
        result = CliRunner().invoke(main, [*command, *options, "--json", str(tmp_path / "x.json")])
        assert result.exit_code == 0 and result.stderr.count("clipnb: fp16 changes an estimated ") == 1, result.stderr
        content = strict((tmp_path / "x.json").read_text("utf-8"))
        content = content.get("summary", content)
        assert (
            content["precision"] == "fp16"
            and content["precision_check"]["images"] == 12
            and content["model_settings"]["activation"] == "GELU"
        )


def test_like_chooses_the_settings_of_a_file(clipnb, tiny_weights, monkeypatch, tmp_path):
    from open_clip.pretrained import _PRETRAINED

    monkeypatch.setitem(_PRETRAINED, "tiny-clip", {"openai": {"quick_gelu": True}, "laion": {}})
    refused(
        clipnb("evaluate"),
        r"Expected `like` \(--like TAG\) for weights of tiny-clip from a file, got none: .*: QuickGELU: openai; "
        r"GELU: laion$",
    )
    for like, activation in (("openai", "QuickGELU"), ("laion", "GELU")):
        found = strict(done(clipnb("evaluate", "--like", like, "--json", "-")))
        assert found["model_settings"]["activation"] == activation
    refused(
        clipnb("evaluate", "--like", "opnai"),
        r"Expected `like` \(--like\) to be a tag of tiny-clip: openai, laion; got 'opnai'$",
    )


@pytest.mark.slow
def test_the_program_itself(tmp_path):
    """One real process: exit code, streams, no traceback."""
    found = subprocess.run(
        [sys.executable, "-m", "clipnb", "evaluate", "--dataset", "folder:/no/such"],
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "clipnb: Expected an existing folder in 'folder:/no/such', got /no/such\n"


def test_a_reader_who_leaves_ends_it_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    program = subprocess.run(
        [sys.executable, "-m", "clipnb", "check"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (program.stderr, program.returncode) == ("", 1)


def test_the_help_loads_no_heavy_library():
    code = "import sys, clipnb.cli; sys.exit(str({'pandas', 'scipy', 'matplotlib', 'torch'} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("name", [name for name, command in main.commands.items() if command.epilog])
def test_examples_of_the_help_use_options_that_exist(name):
    lines = main.commands[name].epilog.replace("\\\n", " ").splitlines()[2:]
    for line in lines:
        program, command, *arguments = shlex.split(line, comments=True)
        assert program == "clipnb" and name in {command, "table"}
        known = {option for parameter in main.commands[command].params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_help_is_for_people():
    for command in ([], *([name] for name in main.commands)):
        result = CliRunner().invoke(main, [*command, "--help"])
        assert result.exit_code == 0 and "Usage:" in result.stdout and result.stderr == ""
        assert "\\b" not in result.stdout
    from clipnb import __version__

    version = CliRunner().invoke(main, ["--version"], prog_name="clipnb")
    assert version.stdout == f"clipnb, version {__version__}\n"


ENDS = """
import atexit, sys, threading, time, click
from clipnb import __main__

@__main__.main.command()
@click.argument("code", type=int)
def leave(code):
    print("command")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    atexit.register(print, "library")
    sys.exit(code)

class Module:
    def __del__(self):
        print("taken apart")

module = Module()
__main__.run()
"""


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_ends_after_threads_and_libraries_and_takes_no_module_apart(code):
    done = subprocess.run([sys.executable, "-c", ENDS, "leave", str(code)], capture_output=True, text=True)
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (["command", "thread", "library"], "", code)


def test_a_full_disk_behind_stdout_fails():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", ENDS, "leave", "0"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode and b"No space left" in done.stderr
