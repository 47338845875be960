"""Unroll a step over time.

Unfolded, a recurrent network is one deep graph with shared parameters; `jax.grad` through its
unrolling is backpropagation through time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnn_jax.cell import Cell
from rnn_jax.errors import check_flag
from rnn_jax.lengths import StepMasks
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.arguments import checked, checked_masks
from rnn_jax.unrolling.perturbed import Perturbations
from rnn_jax.unrolling.sharding import over_examples
from rnn_jax.unrolling.strategies import Auto, Strategy, resolve, run_perturbed

AUTO = Auto()


def unroll(
    cell: Cell,
    params: Params,
    xs: Any,
    initial_state: State | None = None,
    *,
    lengths: Array | Sequence[int] | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    strategy: Strategy | str = "auto",
) -> tuple[State, Array]:
    """Run a cell over a sequence.

    Args:
      cell: its step is taken T times. It is compiled, outside of `jit` too, so that a global or a
        variable of a closure which it reads is read once; what changes belongs in params or xs.
      params: the cell's parameters. In float32 beside `xs` in bfloat16 or float16, they are rounded
        to that precision at each step, which is then that of the state and of `ys`; their gradients
        are in float32. Gradients are summed over time in float32 at least.
      xs: `[T, *batch, I]`, T at least 1, or for a cell that reads several inputs a pytree of such.
      initial_state: leaves `[*batch, ...]`; the cell's own initial state by default.
      lengths: `[*batch]` integers. At and past its length an example's state is carried through
        unchanged, its output is zero, and nothing of `xs` is read: NaN there reaches neither
        outputs nor gradients, and a cell that is singular at some x is evaluated at the example's
        own x alone. With `reverse` an example starts at its own last step.
      resets: `[T, *batch]` booleans, True where a new sequence begins: several of them end to end
        in one array, or a stream cut into pieces. Its first step (with `reverse`, its last) starts
        from the cell's own initial state, whatever came before; resets[0] does away with
        `initial_state`.
      reverse: go from the last step to the first; `ys` stays in the order of `xs`.
      strategy: "auto", "scan", "fused", "parallel", "checkpointed" or an instance of one of the
        classes of `unrolling.strategies`, whose table says what each supports. The numbers are the
        same to rounding; time and memory are not. "auto" is fused where the cell has a structure.

    Returns:
      The final state and `ys [T, *batch, O]`.

    Raises:
      ValueError: a cell that is no Cell; params that do not fit it; T = 0; xs without a time and a
        feature axis, of the wrong input size or dtype; a flag that is no bool; an initial state of
        the wrong structure, shape or dtype; lengths of the wrong shape or dtype,
        negative or above T (values are seen outside `jit` only); resets of the wrong shape or
        dtype; a strategy that is unknown or that the cell does not allow.
    """
    reverse = check_flag("reverse", reverse)
    chosen = resolve(strategy)
    xs, start = checked(cell, params, xs, initial_state)
    masks = checked_masks(xs, lengths, resets, reverse)
    return run(cell, params, xs, start, masks, reverse, chosen)


@compiled("cell", "reverse", "strategy")
def run(
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    masks: StepMasks,
    reverse: bool = False,
    strategy: Any = AUTO,
    perturbations: Perturbations | None = None,
) -> tuple[State, Array]:
    """Return (final state, ys), of arguments that have been checked.

    Perturbations are for strategies that show the states on the way: `Auto`, `Scan` and `Fused`.
    """

    def on_one_mesh(params: Params, xs: Any, start: State, masks: StepMasks, perturbations: Any):
        xs = masks.fill(xs, reverse=reverse)
        args = cell, params, xs, start, masks, reverse
        if perturbations is None:
            final, ys = strategy.run(*args)
        else:
            final, ys = run_perturbed(strategy, *args, perturbations)
        return final, masks.zero_padding(ys)

    of_examples = over_examples(on_one_mesh, xs, params, start)
    return of_examples(params, xs, start, masks, perturbations)
