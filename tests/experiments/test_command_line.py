"""Every field of every experiment: what it cannot be ends in a sentence, before any work."""

import dataclasses
import importlib
import math
import re
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Annotated, Literal

import pytest

import experiments
from experiments.common.command_line import MISTAKE, announcement, command_line
from experiments.common.settings import Limits, Readable, Settings

FORM = re.compile(r"^[\w.]+: got .*; expected .+\. [A-Z].*\.$")
FOLDER = Path(experiments.__file__).parent
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if "class Config(" in file.read_text())
NUMBERS = {int: (0.5, "1", True, None), float: (math.nan, math.inf, -math.inf, "1", True)}


def module_of(name):
    return importlib.import_module(f"experiments.{name}")


def leaves(hint):
    """What a field's type is made of: `(type, limits)`."""
    limits = None
    if typing.get_origin(hint) is Annotated:
        hint, limits = typing.get_args(hint)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType, tuple):
        for part in parts:
            if part not in (Ellipsis, type(None)):
                yield from leaves(part)
    else:
        yield origin or hint, limits


def bad_values(hint, default):
    """What a field of that type cannot be."""
    ((kind, limits),) = set(leaves(hint))
    bad = []
    if kind in NUMBERS:
        bad += [value for value in NUMBERS[kind] if value is not None or "None" not in str(hint)]
        if limits.least is not None:
            bad.append(limits.least - 1)
        if limits.most is not None:
            bad.append(limits.most + 1)
        bad += [limit for limit in (limits.above, limits.below) if limit is not None]
    elif kind is Path:
        bad += ["missing.txt", FOLDER, 3] if isinstance(limits, Readable) else ["", ".", 3]
    elif kind is Literal or kind is str:
        bad += ["", 3] if kind is str else ["nonsense", "", 3]
    elif kind is bool:
        bad += ["no", 1, None]
    if "tuple" in str(hint):
        first = default[0] if default else 1.0
        bad = [(), *((value,) for value in bad), (first, bad[0]), first]
        bad += [(first, first)] if "..." in str(hint) else [(first,) * 3]
    return bad


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_checked_before_any_work(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = module_of(name)
    default = module.Config()
    assert isinstance(default, Settings)
    default.check()
    hints = typing.get_type_hints(module.Config, include_extras=True)
    for field in dataclasses.fields(module.Config):
        for kind, limits in leaves(hints[field.name]):
            assert kind not in NUMBERS or isinstance(limits, Limits), (field.name, "has no limits")
        value = getattr(default, field.name)
        if value is not None:
            assert str(value) in str(field.metadata.get("reduced", field.default))
        for bad in bad_values(hints[field.name], value):
            if bad is None and field.metadata:
                continue  # left out: the setting's value
            with pytest.raises(ValueError) as caught:  # noqa: PT011
                module.main(dataclasses.replace(default, **{field.name: bad}))
            assert FORM.match(str(caught.value)), (field.name, bad, str(caught.value))
            assert str(caught.value).startswith(field.name), (field.name, bad, str(caught.value))
    assert not list(tmp_path.iterdir())


TOGETHER = {
    "computational_graph": (
        {"steps": 2, "gradient_from": 3},
        {"steps": 2, "gradient_to": 3},
        {"cell": "lsmt"},
        {"cell": "no_module:make"},
        {"leaf": "nothing"},
    ),
    "error_surface": ({"w": (7.0, 3.0)}, {"b": (0.0, 0.0)}, {"cut": 4.1}, {"initial_state": 9.0}),
    "flossing": ({"T": 24}, {"delay": 33}, {"num_exponents": 33}, {"rounds": 3}),
    "gradient_decay": (
        {"cell": "gru", "gains": (0.5, 1.0, 2.0)},
        {"gains": (0.5, 0.50000001)},
        {"cell": "lsmt"},
        {"T": 80_000},  # the reference of Python 3.13 holds out more than that of 3.11
        {"T": 10**6},
    ),
    "influence_balancing": ({"k2s": (1, 300)},),
    "lyapunov_theory": ({"large_exponents": 5000}, {"sizes": (1, 64)}),
    "memory_without_explosion": ({"memories": 1e-5},),
    "parameter_sharing": (
        {"held_out": (20,)},
        {"held_out": tuple(range(20))},
        {"sizes": (300, 30)},
    ),
    "phase_diagram": ({"gains": (2.0, 1.0)}, {"strengths": (1.0, 1.0)}, {"lag": 301}),
    "truncation_bias": ({"k2s": (1, 65)}, {"k2s": (1, 2)}, {"k2s": (8, 4, 2)}, {"windows": 10**6}),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_fields_that_do_not_fit_each_other(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = module_of(name)
    for wrong in TOGETHER[name]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            module.main(module.Config(**wrong))
        assert re.match(r"^[\w, ]+: got .*; expected .+\. [A-Z]", str(caught.value)), wrong
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", ""],
        ["--seed", "-1"],
        ["--seeds", "0"],
        ["--learning-rate", "nan"],
        ["--gains"],
        ["--gains", "1", "--cell", "gru"],
        ["--text", "missing.txt"],
        ["--text", "."],
        ["--text", "latin.txt"],
        ["--cell", "nobody:makes"],
        ["plot", "nowhere"],
        ["plot", "latin.txt"],
    ],
)
def test_on_the_command_line_it_is_one_sentence(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("caf\u00e9 au lait".encode("latin-1"))
    module = module_of("gradient_decay")
    monkeypatch.setattr("sys.argv", ["gradient_decay", *arguments])
    with pytest.raises(SystemExit) as end:
        command_line(module.Config, module.main, module.plot, module.__doc__)
    assert end.value.code == MISTAKE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "got" in error
    assert [file.name for file in tmp_path.iterdir()] == ["latin.txt"]


def test_errors_that_are_no_mistakes_of_the_user_are_passed_on(monkeypatch):
    module = module_of("influence_balancing")
    monkeypatch.setattr("sys.argv", ["influence_balancing"])

    def broken(config):
        raise ValueError("shapes (2,) and (3,) do not match")

    with pytest.raises(ValueError, match="do not match"):
        command_line(module.Config, broken, module.plot, module.__doc__)


@pytest.mark.parametrize("name", NAMES)
def test_claim_and_time_come_first(name):
    said = announcement(module_of(name).__doc__)
    assert max(map(len, said.splitlines())) <= 100
    assert re.search(r"(minutes?|seconds)( on two cores)?( \(AVX-512\))?, with the default", said)
    assert "Claim" in said or name == "computational_graph"


def test_a_missing_extra_is_named_with_its_command(tmp_path):
    """As `python -m experiments.NAME` imports the package, without matplotlib and tyro."""
    code = (
        "import sys, importlib.util as u, runpy; found = u.find_spec;"
        "u.find_spec = lambda n, *a: None if n in ('matplotlib', 'tyro') else found(n, *a);"
        "sys.argv = ['-m']; import experiments"
    )
    end = subprocess.run(
        [sys.executable, "-c", code], cwd=FOLDER.parent, capture_output=True, text=True, timeout=60
    )
    assert end.returncode != 0
    assert "Traceback" not in end.stderr
    assert "no matplotlib, tyro" in end.stderr
    assert "the extra [experiments]" in end.stderr
    assert end.stderr.strip().endswith("pip install matplotlib tyro")
