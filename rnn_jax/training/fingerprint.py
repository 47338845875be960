"""Fingerprints of runs: what must be equal for a run to go on from a checkpoint.

These are: the leaves of the state, their shapes and dtypes; the classes of the optimizer's state;
the metrics, those of evaluations too, and what the best is chosen by; clipping levels; the
operations of the optimizer and of the loss, cell and gradient, and the constants of the latter;
what the user says of the run, `config`. The number of steps may change, and the learning rate, its
schedule and every other constant of the optimizer, labels, recorders, hooks and intervals. The data
is not seen, nor the values of arrays that a train step closes over: say in `config` what must not
change of those. Operations are not compared after an update of JAX or optax, or on another
platform.

A train step is a function, and two functions cannot be compared; the programs that they are traced
to can: the arithmetic of the optimizer, that of the loss with its gradient, the constants of the
latter, and the settings that train steps write into scopes (`training.scopes`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from rnn_jax.errors import invalid
from rnn_jax.training.leaves import compare, layout
from rnn_jax.training.scopes import OPTIMIZER, SHARED

MOVEMENT = {
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "dynamic_slice",
    "dynamic_update_slice",
    "expand_dims",
    "iota",
    "pad",
    "pvary",
    "reshape",
    "slice",
    "squeeze",
    "transpose",
}
"""Operations that compute nothing; their number may depend on sizes and devices."""
COMMUNICATION = {"psum", "psum2", "psum_invariant", "axis_index", "all_gather", "pbroadcast"}
"""Operations between devices."""
COMPARISONS = {"lt", "le", "gt", "ge", "clamp", "clip"}
"""Operations by which an optimizer meets the threshold of a clip."""
SETTING = re.compile(r"(clip_norm|clip_value)=([0-9.einf+-]+)")


def trace(train_step: Callable[[Any, Any], Any], state: Any, batch: Any) -> tuple[Any, Any]:
    """Return the program of a train step, a jaxpr, and the shapes of its metrics.

    Raises:
      ValueError: a train step that does not return a state like the one that it was given, and
        metrics.
    """
    program, returned = jax.make_jaxpr(train_step, return_shape=True)(state, batch)
    return program.jaxpr, _checked_metrics(returned, state)


def fingerprint_of(
    program: Any,
    state: Any,
    metrics: Any,
    config: Mapping[str, Any] | None,
    held_out: Mapping[str, str],
) -> dict[str, Any]:
    """Return the fingerprint of a run, JSON, from what `trace` returned.

    It holds, by name: `state`, the dtype and shape of each leaf of the state; `classes`, the
    classes that the state is made of, the optimizer's among them; `metrics`, the dtypes and
    shapes of one step's; `held_out`, those of an evaluation's, and what the best is chosen by;
    `program`, see `program_of`; `config`, what the caller says of the run; `versions`.

    Raises:
      ValueError: a config that is no mapping or cannot be written as JSON.
    """
    packages = {package: version(package) for package in ("jax", "optax")}
    where = {"platform": jax.default_backend(), "devices": jax.device_count()}
    return {
        "state": layout(state),
        "classes": list(_classes(state)),
        "metrics": layout(metrics),
        "held_out": dict(held_out),
        "program": program_of(program),
        "config": _as_json(config),
        "versions": packages | where,
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two fingerprints, in words; nothing where a run may go on.

    Programs are compared only between equal versions of JAX and optax, and on one kind of device;
    with another number of devices, by which operations there are and not by how many. Where the
    states differ already, their programs do.
    """
    found = compare("setting", before["program"]["settings"], now["program"]["settings"])
    found += compare("config", before["config"], now["config"])
    of_state = compare("state", before["state"], now["state"])
    old, new = (_classes_within(run["classes"]) for run in (before, now))
    if not of_state and old != new:
        of_state = [f"classes of the state: {old} -> {new}"]
    found += of_state + compare("metric", before["metrics"], now["metrics"])
    found += compare("held-out", before["held_out"], now["held_out"])
    old, new = before["versions"], now["versions"]
    same_versions = all(old[name] == new[name] for name in ("jax", "optax", "platform"))
    if same_versions and not of_state:
        alike = old["devices"] == new["devices"]
        found += _program_differences(before["program"], now["program"], alike)
    return found


def program_of(jaxpr: Any) -> dict[str, Any]:
    """Return what a train step computes.

    It holds `optimizer` and `loss`, the number of operations of each kind and dtype; `constants`,
    floating numbers in the loss and its gradient that are not whole (whole ones may be sizes);
    `thresholds`, floating numbers that an optimizer compares with or limits to, as clipping does
    (its other constants, such as a learning rate, may change); and `settings`. A train step that
    `make_update` has no part in has all its operations under `loss`, and no constants. What a
    setting stands for is not counted, nor what devices do to share a batch; that they do is
    `shared`.
    """
    counts: dict[str, Counter[str]] = {"optimizer": Counter(), "loss": Counter()}
    constants: set[float] = set()
    thresholds: set[float] = set()
    settings: dict[str, str] = {}
    marked = shared = False
    for equation, scope in _equations(jaxpr, ""):
        by_optimizer, of_sharing = OPTIMIZER in scope, SHARED in scope
        marked |= by_optimizer
        shared |= of_sharing
        named_settings = SETTING.findall(scope)
        settings.update(named_settings)
        if named_settings or of_sharing:
            continue
        name = equation.primitive.name
        if not _subprograms(equation) and name not in MOVEMENT | COMMUNICATION:
            dtype = getattr(equation.outvars[0].aval, "dtype", "")
            counts["optimizer" if by_optimizer else "loss"][f"{name} {dtype}"] += 1
        called = equation.params.get("name", name)  # of jnp.clip, which is a call
        found = _constants(equation)
        if not by_optimizer:
            # Whole numbers are left out: a mean divides by T B, which may change with the data.
            constants.update(number for number in found if number != round(number))
        elif called in COMPARISONS:
            thresholds.update(found)
    named = {part: dict(sorted(of_part.items())) for part, of_part in counts.items()}
    return {
        **named,
        "constants": sorted(constants) if marked else [],
        "thresholds": sorted(thresholds),
        "settings": settings,
        "shared": shared,
    }


def _program_differences(before: Any, now: Any, same_devices: bool) -> list[str]:
    """Return what differs between two programs, in words."""
    found = []
    same_devices &= before["shared"] == now["shared"]
    for part in ("optimizer", "loss"):
        old, new = before[part], now[part]
        if not same_devices:
            # A batch in parts is summed in more operations; which kinds there are stays.
            old, new = dict.fromkeys(old, "used"), dict.fromkeys(new, "used")
        found += compare(f"{part}, operations", old, new)
    for part, words in (("constants", "of the loss or the cell"), ("thresholds", "of clipping")):
        old, new = set(before[part]), set(now[part])
        if old != new:
            found += [f"{part} {words}: {sorted(old - new)} -> {sorted(new - old)}"]
    return found


def _equations(jaxpr: Any, scope: str) -> Iterator[tuple[Any, str]]:
    """Yield every operation of a program and of those in it, with the scopes that it stands in."""
    for equation in jaxpr.eqns:
        inner = f"{scope}/{equation.source_info.name_stack}"
        yield equation, inner
        for subprogram in _subprograms(equation):
            yield from _equations(subprogram, inner)


def _subprograms(equation: Any) -> list[Any]:
    """Return the programs that an operation runs, such as the body of a scan."""
    found = []
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(part, "jaxpr", part)  # of a ClosedJaxpr
            if hasattr(jaxpr, "eqns"):
                found.append(jaxpr)
    return found


def _constants(equation: Any) -> Iterator[float]:
    """Yield the floating literals of an operation."""
    for operand in equation.invars:
        if hasattr(operand, "val") and np.ndim(operand.val) == 0:
            if np.asarray(operand.val).dtype.kind not in "fV":
                continue
            number = float(operand.val)
            if np.isfinite(number):
                yield number


def _classes(tree: Any) -> Iterator[str]:
    """Yield the names of the classes that a pytree is made of, from the outermost on."""
    children = jax.tree.leaves(tree, is_leaf=lambda node: node is not tree)
    is_leaf = len(children) == 1 and children[0] is tree
    if not is_leaf:
        yield type(tree).__name__
        for child in children:
            yield from _classes(child)


def _classes_within(classes: list[str]) -> str:
    """Return the classes within the state's own, which holds leaves of the same names anyway."""
    return " ".join(name for name in classes[1:] if name != "NoneType")


def _checked_metrics(returned: Any, state: Any) -> Any:
    """Return the shapes of the metrics that a train step returns, beside a state like `state`."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        remedy = "Return both as a tuple; metrics may be any pytree of arrays."
        raise invalid("train_step", "one that does not", "(state, metrics)", remedy)
    shapes = lambda tree: [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
    after, metrics = returned
    before = jax.eval_shape(lambda s: s, state)
    structure: Any = jax.tree.structure(after)
    same = structure == jax.tree.structure(before)
    if not same or shapes(after) != shapes(before):
        got = "one that returns a state of another structure, shape or dtype"
        remedy = "Return the state as it came, with new values."
        raise invalid("train_step", got, "(state, metrics), the state as it was given", remedy)
    return metrics


def _as_json(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the config as it will be read back."""
    remedy = "Pass names, numbers and text, such as dataclasses.asdict of a config."
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise invalid("config", config, "a mapping", remedy)
    try:
        return json.loads(json.dumps({str(k): v for k, v in config.items()}, default=str))
    except (TypeError, ValueError) as error:
        raise invalid("config", str(error), "what JSON can hold", remedy) from None
