"""What SECURITY.md promises: nothing that comes from outside runs, escapes, leaks or fetches. PROMISES names the test
of each."""

import io
import os
import re
import socket
import tarfile
from importlib import metadata

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from PIL import Image

import clipnb
from clipnb import _files, datasets
from clipnb.cli import main
from clipnb.errors import InputError

ROOT = datasets.ASSETS.parents[1]
PROMISES = {
    "A checkpoint that is a pickle or a TorchScript archive runs no code, unless `trust_pickle` is True": (
        "test_models.py::test_a_checkpoint_cannot_run_code",
        "test_security.py::test_trust_is_given_by_true_only",
    ),
    "No archive is unpacked: tar shards are read in place, and links and names like ../../x lead nowhere": (
        "test_security.py::test_a_hostile_shard_writes_and_reads_nothing_else",
    ),
    "A table of images reaches no file outside its folder": ("test_security.py::test_a_table_stays_in_its_folder",),
    "An image with too many pixels is rejected before it is decoded": (
        "test_datasets.py::test_a_decompression_bomb_is_refused",
    ),
    "Oversized text and JSON files are rejected before reading; deeply nested JSON raises an error": (
        "test_security.py::test_a_file_too_large_is_refused_unread",
        "test_fuzz.py::test_json_nested_without_end",
    ),
    "Class names, file names and a language model's words are only data in the report": (
        "test_report.py::test_hostile_names_do_nothing",
    ),
    "... in the live figures": ("test_widgets.py::test_names_stay_data",),
    "... in static figures, where LaTeX is not read": (
        "test_security.py::test_names_with_latex_are_drawn_as_they_are",
    ),
    "... in the parameters of notebooks and on the command line": (
        "test_security.py::test_a_notebook_s_parameter_is_a_value_not_code",
    ),
    "A language model's answer with markup, links or instructions is rejected": (
        "test_llm.py::test_a_bad_answer_is_asked_again_and_then_reported",
    ),
    "Keys are read from the environment only, and appear in no file, message or error": (
        "test_llm.py::test_a_refused_key_is_reported_at_once_and_never_shown",
        "test_llm.py::test_a_key_that_comes_back_in_an_answer_is_not_kept",
        "test_security.py::test_no_command_says_or_stores_a_key",
    ),
    "The network is used only if you name a hub's weights or a language model; there is no telemetry": (
        "test_security.py::test_nothing_is_fetched_unless_asked",
    ),
    "Dependencies are pinned with hashes": (
        "test_packaging.py::test_the_lock_holds_a_hash_for_every_package_and_what_the_build_needs",
    ),
    "Every runtime dependency has a licence that allows this use": ("test_security.py::test_licences",),
    "Shipped files are checked by SHA-256 when they are read": (
        "test_faults.py::test_a_flipped_bit_in_what_is_shipped_is_found",
    ),
}


@pytest.mark.parametrize("trust", ["no", 1, None])
def test_trust_is_given_by_true_only(trust):
    with pytest.raises(InputError, match=r"^Expected `trust_pickle` to be True or False, got "):
        clipnb.load_model("ViT-B-32", "weights.pt", trust_pickle=trust)
    flags = [option for command in main.commands.values() for option in command.params if option.name == "trust_pickle"]
    assert len(flags) == 8 and not any(
        flag.get_default(click.Context(main)) for flag in flags
    )  # a command trusts when it is told to


def test_a_hostile_shard_writes_and_reads_nothing_else(tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 4), "red").save(secret)
    inside = tmp_path / "shards"
    inside.mkdir()
    (inside / "classnames.txt").write_text("cat\n")
    Image.new("RGB", (4, 4), "blue").save(picture := io.BytesIO(), "PNG")
    with tarfile.open(inside / "a.tar", "w") as archive:

        def add(name, kind=tarfile.REGTYPE, content=b"", link=""):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), link
            archive.addfile(member, io.BytesIO(content))

        for name in ("../../escaped.png", "/tmp/absolute.png", "good.png"):
            add(name, content=picture.getvalue())
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            add(f"link{kind!r}.png", kind, link=str(secret))
            add("good.cls", kind, link="/etc/hostname")
        for kind in (tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            add(f"odd{kind!r}.png", kind), add("good.cls", kind)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    data = clipnb.load_dataset(f"webdataset:{inside}/*.tar")
    assert (
        len(data) == 3
        and all(data[i][0].getpixel((0, 0)) == (0, 0, 255) for i in range(3))
        and data.labels.tolist() == [-1] * 3
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    source = "".join(file.read_text("utf-8") for file in (ROOT / "clipnb").rglob("*.py"))
    assert not re.search(r"\.extract(all)?\(|unpack_archive", source)
    uses = re.findall(r"archive\.\w+", source[source.index("zipfile.ZipFile(") :])
    # Of a checkpoint only the names of its parts are read; images of a shard are read and never written to disk.
    assert not {"archive.extract", "archive.extractall"} & set(uses), uses


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "/etc/hostname", "a\0.png"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_stays_in_its_folder(tmp_path, path, kind):
    (tmp_path / "in").mkdir()
    for place in (tmp_path, tmp_path / "in"):
        Image.new("RGB", (4, 4)).save(place / "secret.png")
    table = tmp_path / "in" / f"t.{kind}"

    def write(path):
        if kind == "csv":
            table.write_text(f"path,label\n{path},cat\n")
        else:
            import pyarrow.parquet as pq

            pq.write_table(pa.table({"path": [path], "label": ["cat"]}), table)

    write(path)
    with pytest.raises(
        InputError,
        match=r"^Expected paths of images below the folder of the table .*; put the table above its "
        r"images$|^Cannot read the table",
    ):
        clipnb.load_dataset(f"table:{table}")
    write("sub/../secret.png")
    (tmp_path / "in" / "sub").mkdir()
    assert clipnb.load_dataset(f"table:{table}")[0][0].size == (4, 4)


def test_a_file_too_large_is_refused_unread(tmp_path, tiny):
    big = tmp_path / "big.json"
    with open(big, "wb") as file:
        file.truncate(_files.MAX_TEXT_BYTES + 1)  # a hole: takes no room
    store = tmp_path / "store"
    store.mkdir()
    os.link(big, store / "provenance.json")
    for read in (
        clipnb.describe.load_descriptions,
        clipnb.prompts.load_templates,
        clipnb.describe.load_query,
        clipnb.report.Report.load,
        clipnb.paper.reproduce.check_results,
        lambda path: clipnb.datasets.with_classes(clipnb.load_dataset().take(2), path),
        lambda path: clipnb.Embeddings.load(store),
    ):
        with pytest.raises(
            InputError, match=r"Expected a file of at most 512 MB in .*(big|provenance).json, got 512 MB"
        ):
            read(big)


def test_names_with_latex_are_drawn_as_they_are():
    import numpy as np
    from matplotlib.figure import Figure

    from clipnb import plots

    names = ["$\\frac{", "\\input{/etc/passwd}", "<b>$$</b>"]
    for draw in (
        lambda ax: plots.confusion(np.eye(3), names, ax=ax),
        lambda ax: plots.weights([0.2, 0.3, 0.5], names, ax=ax),
        lambda ax: plots.image_strip([Image.new("RGB", (4, 4))] * 3, names, ax=ax),
    ):
        ax = draw(Figure().subplots())
        ax.figure.savefig(out := io.BytesIO(), format="svg")
        assert out.getvalue()


HOSTILE = [
    '"; import os; os.system("touch owned"); "',
    "'''\nraise SystemExit\n'''",
    "$(touch owned)",
    "`touch owned`",
    "\\",
    "{{7*7}}",
    "\u2028x",
    "a\0b",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_notebook_s_parameter_is_a_value_not_code(value):
    from papermill.translators import PythonTranslator

    from tools.book.run_notebooks import parse_value

    code = PythonTranslator.codify({"dataset": parse_value(value)})
    found = {}
    exec(
        compile(code, "parameters", "exec"), {"__builtins__": {}}, found
    )  # builtins are out of reach: only a literal works
    assert found["dataset"] == value


@pytest.fixture
def offline(monkeypatch):
    """Every way out is closed and counted."""
    tried = []

    def refuse(*arguments, **options):
        tried.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


def test_nothing_is_fetched_unless_asked(offline, tiny_weights, pictures, tmp_path):
    of = ["--dataset", f"folder:{pictures}", "--model", "tiny-clip", "--pretrained", str(tiny_weights)]
    commands = [
        ["check"],
        ["encode", *of, "--store", tmp_path / "s"],
        ["evaluate", *of, "--store", tmp_path / "s"],
        ["margin", *of, "--store", tmp_path / "s"],
        ["ensemble", *of, "--method", "uniform", "--store", tmp_path / "s"],
        ["audit", *of, "--out", tmp_path / "r.html"],
        ["describe", *of, "--out", tmp_path / "d.json"],
    ]
    for command in commands:
        result = CliRunner().invoke(main, list(map(str, command)))
        assert result.exit_code == 0, result.output
    clipnb.encode_texts(clipnb.load_model(), ["a dog"])
    assert offline == []
    assert not re.search(
        r"(src|href)\s*=\s*[\"']?(https?:)?//", (tmp_path / "r.html").read_text("utf-8")
    )  # and neither does the page


def test_no_command_says_or_stores_a_key(monkeypatch, tiny_weights, pictures, tmp_path):
    key = "sk-nobody-may-see-this-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("HF_TOKEN", key)
    common = [
        "describe",
        "--dataset",
        f"folder:{pictures}",
        "--model",
        "tiny-clip",
        "--pretrained",
        str(tiny_weights),
        "--llm",
        "openai/x",
        "--price",
        "0,0",
        "--api-base",
        "http://127.0.0.1:9/v1",
        "--retries",
        "0",
        "--cache",
        tmp_path / "cache",
        "--json",
        tmp_path / "out.json",
        "--out",
        tmp_path / "d.json",
    ]
    for debug in ([], ["--debug"]):
        result = CliRunner().invoke(main, list(map(str, debug + common)))
        assert result.exit_code == 1 and "got no answer" in result.stderr
        assert key not in result.output + repr(result.exception)
    assert all(key.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    result = CliRunner().invoke(main, [str(part).replace("http://", f"http://user:{key}@") for part in common])
    assert result.exit_code == 2 and key not in result.output


ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla "
    r"Public|Zlib|CC0|HPND|Historical|BSL-1.0|Unlicense|CNRI",
    re.IGNORECASE,
)
OF_TORCH = re.compile(r"nvidia-|cuda-")  # what torch's own wheels for CUDA bring: NVIDIA's terms, which allow use


def runtime_dependencies(name="clipnb", found=None, extras=("", "model", "widgets")):
    found = {} if found is None else found
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key not in found:
        try:
            found[key] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another system
            return found
        for line in found[key].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                runtime_dependencies(requirement.name, found, ("",))
    return found


def test_licences():
    found = runtime_dependencies()
    assert {"torch", "pillow", "jinja2", "anywidget"} <= set(found)
    unknown = {}
    for name, package in found.items():
        about = package.metadata
        said = [
            about.get("License-Expression"),
            *(c for c in about.get_all("Classifier") or [] if c.startswith("License")),
            (about.get("License") or "")[:100],
        ]
        if not OF_TORCH.match(name) and not ALLOWED.search(" ".join(filter(None, said))):
            unknown[name] = said
        assert not re.search(r"\b(A?GPL|GNU (Affero )?General)", " ".join(filter(None, said))), name
    assert not unknown


def test_every_promise_has_its_test_and_stands_in_security_md():
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    for promise, proofs in PROMISES.items():
        assert promise.removeprefix("... ") in text, promise
        for proof in proofs:
            file, _, name = proof.partition("::")
            assert f"def {name}(" in next((ROOT / "tests").rglob(file)).read_text("utf-8"), proof
