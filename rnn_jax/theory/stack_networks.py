"""A recurrent network that runs a machine with stacks, built and not trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells import Activation, AffineParams, elman
from rnn_jax.errors import check_dtype, describe, invalid
from rnn_jax.theory.stack_machines import (
    Configuration,
    Rule,
    StackMachine,
    check_machine,
    check_symbols,
)
from rnn_jax.types import Array, Params

STEPS = 3
"""Steps of the network for one of its machine: stacks and tops, rules, what the rules do."""
INHIBITION = 4
"""More than an operation gives for any q: 4q − 1 at most."""


class StackNetwork(NamedTuple):
    """An Elman network of saturated-linear units that runs a machine: `stack_machine_network`.

    Attributes:
      machine: the machine.
      cell: `elman(H, σ)`, whose initial state is the machine's start.
      params: W, U and b, rational numbers with powers of two as denominators.
      units: what each unit stands for, `[H]`.
    """

    machine: StackMachine
    cell: Cell
    params: Params
    units: tuple[str, ...]

    def inputs(self, symbols: Sequence[str | None]) -> Array:
        """Return xs `[3 · len(symbols), I]`: a symbol at every third step, one-hot; None for none.

        Raises:
          ValueError: a symbol that no rule reads; no sequence.
        """
        check_symbols(symbols)
        known = self.machine.symbols
        xs = np.zeros((len(symbols), STEPS, len(known)), self.params.b.dtype)
        for n, symbol in enumerate(symbols):
            if symbol is not None:
                if symbol not in known:
                    remedy = "Write a rule that reads it."
                    raise invalid("symbols", symbol, f"of {', '.join(known)}, or None", remedy)
                xs[n, 0, known.index(symbol)] = 1
        return jnp.asarray(xs.reshape(len(symbols) * STEPS, len(known)))

    def configurations(self, ys: Array) -> list[Configuration]:
        """Return the machine after each of its steps, as outputs ys `[3 n, H]` of `unroll` have it.

        Raises:
          ValueError: outputs of another shape, or of several examples; ones that are not finite.
        """
        outputs = np.asarray(ys, np.float64)
        if outputs.ndim != 2 or len(outputs) % STEPS or outputs.shape[1] != len(self.units):
            expected = f"[a multiple of {STEPS}, {len(self.units)}]"
            raise invalid("ys", describe(ys), expected, "Pass those of one example.")
        if not np.isfinite(outputs).all():
            raise invalid("ys", "some that are not finite", "numbers", "Look at what was run.")
        states, P = self.machine.states, self.machine.stacks
        found = []
        for y in outputs[STEPS - 1 :: STEPS]:
            active = [name for name, unit in zip(states, y, strict=False) if unit == 1]
            stacks = tuple(map(Fraction, y[len(states) : len(states) + P].tolist()))
            found.append(Configuration(active[0] if active else "", stacks))
        return found


def stack_machine_network(machine: StackMachine, dtype: DTypeLike = jnp.float32) -> StackNetwork:
    r"""Return the network h_t = σ(W h_{t-1} + U x_t + b) that runs a machine, three steps for one.

    .. math::
        s &= \sigma(s'), \quad q_p = \sigma\Bigl(\sum_r g_{rp}\Bigr), \quad
        \mathrm{top}_p = \sigma\Bigl(4 \sum_r g_{rp} - 2\Bigr), \quad
        \mathrm{full}_p = \sigma\Bigl(4 \sum_r g_{rp}\Bigr) \\
        n_r &= \sigma(\text{conditions of rule } r \text{ that do not hold}) \\
        g_{rp} &= \sigma(\text{operation}_{rp}(q_p) - 4 n_r), \quad
        s' = \sigma\Bigl(\sum_{r \to s} (1 - n_r)\Bigr)

    Each line is one step. A rule is inhibited by n_r = 1 unless it applies; then n_r is 0, and adds
    nothing to q/4 + (2b + 1)/4, which is rounded once. So a stack is exact as long as its q fits
    the dtype's mantissa of p bits, which d bits in a stack do up to d = p/2, rounded down, whatever
    is on top: 12 in float32, 26 in float64, 5 in float16, 4 in bfloat16; a rounded one is not the
    stack any more.

    Args:
      machine: any machine.
      dtype: dtype of the network. Products have to be taken in it: on a GPU or TPU under
        `jax.default_matmul_precision("highest")`.

    Raises:
      ValueError: rules that are none, of different numbers of stacks, with tops or operations that
        are none, that pop what may be empty, or of which two apply at once; a dtype that is none
        of floats, or that does not hold every weight and count the rules to each state exactly.

    Reference: Siegelmann and Sontag (1995). Departure: inhibition by n_r instead of a term γ_r − 1,
    which would cost a bit of the stack.
    """
    dtype = check_dtype("dtype", dtype)
    check_machine(machine)
    rules, states, P = machine.rules, machine.states, machine.stacks
    names = [
        *(f"state {state}" for state in states),
        *(f"{kind} {p}" for kind in ("stack", "top", "full") for p in range(P)),
        *(f"not rule {r}" for r in range(len(rules))),
        *(f"stack {p} beside rules" for p in range(P)),
        *(f"next {state}" for state in states),
        *(f"stack {p} by rule {r}" for r in range(len(rules)) for p in range(P)),
    ]
    unit, H = {name: n for n, name in enumerate(names)}, len(names)
    weights = _weights(machine, unit)
    params = AffineParams(*(jnp.asarray(array, dtype) for array in weights))
    held = (np.asarray(leaf, np.float64) for leaf in (params.W, params.U, params.b))
    # b is how many rules lead to a state, and their n_r have to be counted.
    countable = weights[2].max() <= 2 ** (jnp.finfo(params.b.dtype).nmant + 1)
    if not countable or not all(map(np.array_equal, held, weights)):
        expected = "one that holds every weight, and counts the rules to each state, exactly"
        remedy = "Push fewer bits at once, or choose a wider dtype."
        raise invalid("dtype", params.b.dtype.name, expected, remedy)
    # No rule applies at the two other times, at which nothing is in the network yet.
    begun = [f"state {machine.start}", *(name for name in names if name.startswith("not rule"))]
    start = jnp.zeros(H, dtype).at[jnp.array([unit[name] for name in begun])].set(1)
    cell = elman(H, Activation(lambda a: jnp.clip(a, 0, 1), 1.0), dtype=dtype)

    def initial_state(params: Params, batch: tuple[int, ...] = ()) -> Array:
        del params
        return jnp.broadcast_to(start, (*batch, H))

    cell = replace(cell, initial_state=initial_state, name=f"stack machine of {H} units")
    return StackNetwork(machine, cell, params, tuple(names))


def _weights(machine: StackMachine, unit: Mapping[str, int]) -> tuple[np.ndarray, ...]:
    """Return W, U and b of the units, each its row."""
    rules, states, symbols, P = machine.rules, machine.states, machine.symbols, machine.stacks
    H = len(unit)
    W, U, b = np.zeros((H, H)), np.zeros((H, len(symbols))), np.zeros(H)
    for state in states:
        W[unit[f"state {state}"], unit[f"next {state}"]] = 1
    for p in range(P):
        b[unit[f"top {p}"]] = -2
        W[unit[f"stack {p} beside rules"], unit[f"stack {p}"]] = 1
        for r in range(len(rules)):
            by_rule = unit[f"stack {p} by rule {r}"]
            for kind, weight in (("stack", 1), ("top", 4), ("full", 4)):
                W[unit[f"{kind} {p}"], by_rule] = weight
    for r, rule in enumerate(rules):
        n = unit[f"not rule {r}"]
        for name, weight, missing in _conditions(rule):
            W[n, unit[name]] += weight
            b[n] += missing
        if rule.symbol is not None:
            U[n, symbols.index(rule.symbol)] = -1
            b[n] += 1
        W[unit[f"next {rule.next_state}"], n] -= 1
        b[unit[f"next {rule.next_state}"]] += 1
        for p, (top, operation) in enumerate(zip(rule.tops, rule.operations, strict=True)):
            row = unit[f"stack {p} by rule {r}"]
            factor, b[row] = _affine(top, operation)
            W[row, unit[f"stack {p} beside rules"]] = factor
            # More than any operation gives for another stack than its own.
            W[row, n] = -INHIBITION
    return W, U, b


def _conditions(rule: Rule) -> Iterator[tuple[str, int, int]]:
    """Yield unit, weight and constant of 1 − each condition of a rule on state and stacks."""
    yield f"state {rule.state}", -1, 1
    for p, top in enumerate(rule.tops):
        if top == "":
            yield f"full {p}", 1, 0
        elif top == "1":
            yield f"top {p}", -1, 1
        elif top == "0":
            yield f"full {p}", -1, 1
            yield f"top {p}", 1, 0


def _affine(top: str, operation: str) -> tuple[float, float]:
    """Return (factor, constant) of an operation on q, whose top is known if it pops."""
    factor, constant = Fraction(1), Fraction(0)
    if operation.startswith("-"):
        factor, constant = Fraction(4), Fraction(-(2 * int(top) + 1))
    for bit in operation.lstrip("-"):
        factor, constant = factor / 4, constant / 4 + Fraction(2 * int(bit) + 1, 4)
    return float(factor), float(constant)
