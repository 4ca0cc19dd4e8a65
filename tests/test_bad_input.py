"""Every public function, each argument spoiled in every way of its kind: one clear line, of the documented kind, in time."""

import inspect

import pytest
from bad_input import NOT_CALLED, ROWS, calls, fault, function_of, kinds_of

import clipnb
from test_public_api import PUBLIC


def public_functions():
    for module, names in PUBLIC.items():
        place = getattr(clipnb, module) if module else clipnb
        for name in names:
            if callable(getattr(place, name)):
                yield f"{module}.{name}" if module else name


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
    faults = {(argument, mutation): found for of, argument, mutation in calls() if of == name and (found := fault(name, argument, mutation))}
    assert not faults, "\n".join(f"{name}({argument}): {mutation}: {found}" for (argument, mutation), found in faults.items())
