"""What a field of a `Config` may be, said in its type, and checked in one place before any work."""

from __future__ import annotations

import os
import types
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from rnn_jax.errors import check_flag, check_integer, check_number, choose, invalid


class Limits(NamedTuple):
    """The range of a number, which is finite in any case."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None


class Readable(NamedTuple):
    """Marks the path of a file that is read."""


Size = Annotated[int, Limits(least=1)]
Seed = Annotated[int, Limits(least=0, most=2**32 - 1)]
Finite = Annotated[float, Limits()]
Positive = Annotated[float, Limits(above=0)]
NotNegative = Annotated[float, Limits(least=0)]
OpenUnit = Annotated[float, Limits(above=0, below=1)]
InputFile = Annotated[Path, Readable()]


@dataclass(frozen=True)
class Checked:
    """Fields that are checked against their types; a subclass adds them."""

    def check(self) -> None:
        """Raise ValueError for the first field that is out of its limits, or does not fit others.

        The message names the field, what came and what was expected.
        """
        hints = typing.get_type_hints(type(self), include_extras=True)
        for each in fields(self):
            _check(each.name, getattr(self, each.name), hints[each.name])
        self.check_together()

    def check_together(self) -> None:
        """Raise ValueError where fields, each within its limits, do not fit each other."""


@dataclass(frozen=True)
class Settings(Checked):
    """The base of every experiment's `Config`; a subclass adds its fields and an `out`."""

    out: Path = Path("runs/experiment")
    """The run folder."""
    overwrite: bool = False
    """Replace the finished run in the run folder; the old one stays until the new one is done."""


SETTINGS = ("reduced", "paper")


@dataclass(frozen=True)
class Reproduction(Settings):
    """The base of the `Config` of a published result, which it has under two settings."""

    setting: Literal["reduced", "paper"] = "reduced"
    """"reduced" runs in minutes on two cores; "paper" has the sizes of the publication."""
    seed: Seed = 0
    """PRNG seed of the first network of each arm; the others have the next ones."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) is None and each.metadata:
                # A setting that there is not is refused by `check`.
                value = each.metadata.get(self.setting, each.metadata["reduced"])
                object.__setattr__(self, each.name, value)


def by_setting(*, reduced: Any, paper: Any) -> Any:
    """Return the field of a `Reproduction` whose value, if left out, depends on the setting."""
    return field(default=None, metadata={"reduced": reduced, "paper": paper})


def _check(name: str, value: Any, hint: Any) -> None:
    """Raise ValueError unless `value` is what `hint` says."""
    hint, limits = _split(hint)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is not None:
            (kind,) = (part for part in parts if part is not type(None))
            _check(name, value, kind)
    elif origin is tuple:
        _check_tuple(name, value, parts)
    elif origin is Literal:
        choose(name, value, dict.fromkeys(parts))
    elif hint is bool:
        check_flag(name, value)
    elif hint is int:
        limits = limits or Limits()
        least, most = (None if x is None else int(x) for x in (limits.least, limits.most))
        check_integer(name, value, least, most)
    elif hint is float:
        check_number(name, value, **(limits or Limits())._asdict())
    elif hint is Path:
        _check_path(name, value, must_exist=isinstance(limits, Readable))
    elif not isinstance(value, str) or not value:
        raise invalid(name, value, "a name", "Leave the option out for its default.")


def _split(hint: Any) -> tuple[Any, Any]:
    """Return the type of `Annotated[type, limits]` and its limits; None for a type without."""
    if typing.get_origin(hint) is Annotated:
        kind, limits = typing.get_args(hint)
        return kind, limits
    return hint, None


def _check_tuple(name: str, value: Any, parts: tuple[Any, ...]) -> None:
    if not isinstance(value, tuple | list) or not value:
        raise invalid(name, value, "one value at least", "Pass values, separated by spaces.")
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(value)
        if len(set(value)) < len(value):
            raise invalid(name, value, "each value once", "Leave out the one that repeats.")
    if len(parts) != len(value):
        raise invalid(name, value, f"{len(parts)} values", "Pass values, separated by spaces.")
    for each, part in zip(value, parts, strict=True):
        _check(name, each, part)


def _check_path(name: str, value: Any, *, must_exist: bool) -> None:
    if not isinstance(value, str | Path):
        raise invalid(name, value, "a path", "Pass a path.")
    path = Path(value)
    if must_exist:
        if not path.is_file():
            got = f"{value}, " + ("a folder" if path.is_dir() else "which is not there")
            raise invalid(name, got, "a file", "Check the path.")
        if not os.access(path, os.R_OK):
            raise invalid(name, str(value), "a file that may be read", "Check its permissions.")
    elif path == Path():
        raise invalid(name, "an empty path", "a folder of its own", "Name one, as runs/mine.")


def check_range(name: str, value: tuple[float, float]) -> None:
    """Raise ValueError unless `value`, (from, to), goes up."""
    if not value[0] < value[1]:
        raise invalid(name, value, "a range that goes up", "Pass the lower end first.")
