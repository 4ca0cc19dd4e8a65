"""Versions live once (pyproject.toml), and everything that installs agrees with it."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
EXTRAS = PROJECT["optional-dependencies"]
LOCKED_EXTRAS = ("book", "dev")  # what `make book` and `make test` install


def locked_versions():
    found = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ \\;]+)", LOCK, re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def tracked_texts():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        try:
            yield name, (ROOT / name).read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # binary, or removed and not yet committed


def test_every_direct_dependency_is_locked_inside_its_range():
    direct = [*PROJECT["dependencies"], *(line for extra in LOCKED_EXTRAS for line in EXTRAS[extra])]
    locked = locked_versions()
    for requirement in map(Requirement, direct):
        if requirement.name == PROJECT["name"]:
            continue
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in requirements.lock: run `make lock`"
        for version in versions:
            assert version in requirement.specifier, (
                f"requirements.lock has {requirement.name} {version}, pyproject.toml asks for {requirement.specifier}"
            )


def test_the_lock_holds_a_hash_for_every_package_and_what_the_build_needs():
    packages = re.findall(r"^[A-Za-z0-9._-]+==.*?(?=^\S|\Z)", LOCK, re.MULTILINE | re.DOTALL)
    assert packages
    assert all("--hash=sha256:" in package for package in packages)
    assert "setuptools" in locked_versions(), "the editable install runs without build isolation"


def test_environment_yml_takes_versions_from_pyproject():
    parts = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    conda = [part for part in parts if isinstance(part, str)]
    pip = next(part["pip"] for part in parts if isinstance(part, dict))
    assert {re.split(r"[<>=]", part)[0] for part in conda} == {"python", "pip"}
    assert f"python{PROJECT['requires-python']}" in conda
    assert pip == ["-e .[book]"]


def test_the_page_scripts_are_pinned_without_a_registry():
    wanted = json.loads((ROOT / "book/package.json").read_text("utf-8"))["dependencies"]
    packages = json.loads((ROOT / "book/package-lock.json").read_text("utf-8"))["packages"]
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in package for name, package in packages.items() if name)
    assert not any("resolved" in package for package in packages.values())


REGISTRIES = r"(registry\.npmjs|files\.pythonhosted|pypi\.org/simple|--(extra-)?index-url|registry\.yarnpkg)"
MACHINE_PATHS = r"(?<![\w.])/(home|Users|root|work|private|mnt)/[\w.-]+/"


@pytest.mark.parametrize("pattern", [REGISTRIES, MACHINE_PATHS], ids=["registry", "machine path"])
def test_no_tracked_file_names_a_registry_or_a_machine_path(pattern):
    found = [
        f"{name}: {match.group()}"
        for name, text in tracked_texts()
        if name != "tests/contract/test_packaging.py"
        for match in re.finditer(pattern, text)
    ]
    assert not found, "\n".join(found)


def test_pages_and_citation_name_one_version():
    import clipnb

    assert clipnb.__version__ == PROJECT["version"]
    assert re.search(
        rf"^version: \"?{re.escape(PROJECT['version'])}\"?$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE
    )
