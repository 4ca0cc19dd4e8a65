"""Every public function, each argument spoiled in every way of its kind: one clear line, of the documented kind, in
time."""

import inspect
import operator

import pytest
from click.testing import CliRunner

import clipnb
from clipnb.cli import main
from tests.support.bad_input import (
    HARMLESS,
    NOT_CALLED,
    ROWS,
    TOGETHER,
    bad_options,
    calls,
    fault,
    function_of,
    kinds_of,
)
from tests.unit.test_public_api import PUBLIC


def public_functions():
    for module, names in PUBLIC.items():
        place = operator.attrgetter(module)(clipnb) if module else clipnb
        for name in names:
            if callable(getattr(place, name)):
                yield f"{module.rpartition('.')[2]}.{name}" if module else name


def test_every_public_function_has_its_row():
    assert sorted(set(public_functions()) - set(NOT_CALLED) - set(ROWS)) == []
    for name in ROWS:
        assert kinds_of(name) is not None


@pytest.mark.parametrize("name", ROWS)
def test_a_valid_call_is_answered(name):
    given = ROWS[name][0]()
    required = [p for p in inspect.signature(function_of(name)).parameters.values() if p.default is p.empty]
    if all(p.name in given for p in required):
        function_of(name)(**given)


@pytest.mark.parametrize("name", ROWS)
def test_a_spoiled_argument_is_refused_in_one_clear_line(name):
    faults = {
        (argument, mutation): found
        for of, argument, mutation in calls()
        if of == name and (found := fault(name, argument, mutation))
    }
    assert not faults, "\n".join(
        f"{name}({argument}): {mutation}: {found}" for (argument, mutation), found in faults.items()
    )


@pytest.mark.parametrize("command", main.commands)
def test_a_bad_option_is_one_line_and_exit_code_2(command, tiny_weights, pictures, tmp_path, monkeypatch):
    """Whatever is wrong: nothing on stdout, one line (after the estimate, where a language model is asked) on stderr,
    no traceback, and no file."""
    monkeypatch.chdir(tmp_path)
    takes = {option.opts[0] for option in main.commands[command].params}
    base = {
        "--model": "tiny-clip",
        "--pretrained": str(tiny_weights),
        "--dataset": f"folder:{pictures}",
        **({"--store": "s"} if command == "encode" else {}),
    }
    before, faults = sorted(tmp_path.rglob("*")), {}
    for of, flag, value in bad_options():
        if of != command:
            continue
        rest = {
            key: given
            for key, given in base.items()
            if key in takes and key != flag and not (flag in ("--imagenet", "--check") and key == "--dataset")
        }
        more = (
            TOGETHER.get(flag, [])
            if (command, flag) not in HARMLESS
            else ["--llm", "openai/x", "--price", "0,0", "--dry-run"]
        )
        values = value if isinstance(value, tuple) else (value,)
        result = CliRunner().invoke(
            main, [command, *(part for pair in rest.items() for part in pair), *more, flag, *values]
        )
        line = result.stderr.splitlines()
        if (
            (result.exit_code, result.stdout) != (2, "")
            or len(line) > 1 + bool(more)
            or not line[-1].startswith("clipnb: ")
            or len(line[-1]) > 900
        ):
            faults[flag, str(value)[:40]] = (result.exit_code, result.output[:200])
        left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
        if left:
            faults[flag, str(value)[:40], "left"] = left
            for path in left:
                path.is_file() and path.unlink()
    assert not faults, "\n".join(map(str, faults.items()))
    for wrong in (["--no-such-option"], ["too", "many"]):
        result = CliRunner().invoke(main, [command, *wrong])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
