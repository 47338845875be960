"""Strategies: ways to unroll a cell, equal in their numbers, not in time and memory.

| strategy       | cells      | memory of a gradient | reverse, forward, higher order, vmap |
| -------------- | ---------- | -------------------- | ------------------------------------ |
| `Scan`         | any        | T × all of a step    | all                                  |
| `Fused`        | structured | T × state or gates   | all                                  |
| `Parallel`     | linear     | T × state and gates  | all                                  |
| `Checkpointed` | any        | √T, or T^(1/levels)  | all                                  |

`Fused` serves the cells that have a `structure` (all of `cells.CELLS`, and those made by
`cells.gated` and `cells.structured`), `Parallel` those whose structure is `linear` in the state
(made by `cells.linear`). A cell that is made of others, a `cells.stack` say, is run layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax

from rnn_jax.cell import Cell, Structure
from rnn_jax.errors import check_size, invalid
from rnn_jax.lengths import StepMasks, input_dtype, is_array, select_state, steps_of
from rnn_jax.transforms.precision import as_read, for_sums
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.fused import closes_over_traced, scan_in_chunks, unroll_fused
from rnn_jax.unrolling.parallel import unroll_parallel
from rnn_jax.unrolling.perturbed import Perturbations
from rnn_jax.unrolling.scan import Scan, scan_steps, state_at_resets

ROWS_PER_CHUNK = 256
"""Steps times examples in one chunk: enough for a product to be fast, few enough for the cache."""
STEPS_PER_CHUNK = (4, 32)
"""The fewest and the most, however many examples there are."""
STORE_PREACTIVATIONS_FROM_WIDTH = 512
"""Columns of W from which recomputing a pre-activation takes longer than keeping it."""


@dataclass(frozen=True)
class Fused:
    """Chunks of steps; drives and weight gradients as one large product a chunk (`fused.py`).

    Attributes:
      chunk: steps in a chunk; chosen by the number of examples if None. Any T will do, but a chunk
        that divides it saves a copy of the outputs.
      recompute: recompute the pre-activations in the backward pass, in one product a chunk, and
        keep the state; otherwise keep them, and recompute the state elementwise. If None, where it
        saves memory at next to no cost in time: the pre-activations are wider than the state, but
        no more than twice, and operands are narrower than STORE_PREACTIVATIONS_FROM_WIDTH.
    """

    chunk: int | None = None
    recompute: bool | None = None

    def __post_init__(self):
        if self.chunk is not None:
            check_size("chunk", self.chunk)

    def sizes(
        self, structure: Structure, params: Params, xs: Array, start: State
    ) -> dict[str, Any]:
        """Return `chunk` and `recompute` for `unroll_fused`: as they were given, or chosen."""
        recompute = self.recompute
        if recompute is None:
            recompute = self._saves_memory_by_recomputing(structure, params, start)
        return {"chunk": self.chunk or _chunk_for(xs), "recompute": recompute}

    @staticmethod
    def _saves_memory_by_recomputing(structure: Any, params: Params, start: State) -> bool:
        shapes = [product.W(params).shape for product in structure.products]
        state_width = sum(leaf.shape[-1] for leaf in jax.tree.leaves(start))
        kept_width = sum(G for G, _ in shapes)
        narrow = all(E < STORE_PREACTIVATIONS_FROM_WIDTH for _, E in shapes)
        return state_width < kept_width <= 2 * state_width and narrow

    def run(
        self, cell: Cell, params: Params, xs: Any, start: State, masks: StepMasks, reverse: bool
    ) -> tuple[State, Array]:
        """Return (final state, ys)."""
        if cell.unroll_layers is not None:
            return _unroll_layerwise(self, cell, params, xs, start, masks, reverse)
        if cell.structure is None:
            raise invalid(
                "strategy",
                "fused, for a cell that is a plain function",
                "a cell with a structure",
                'Use strategy="scan" (or "auto"), or build the cell by cells.structured.',
            )
        if closes_over_traced(cell.structure, params, xs, start):
            return Scan().run(cell, params, xs, start, masks, reverse)
        return _fused(self, cell, params, xs, start, masks, reverse)


@dataclass(frozen=True)
class Parallel:
    """All steps at once, in a depth of log T, for a recurrence that is linear in its state.

    More arithmetic than `Fused`: for devices on which one step after the other is slow.
    """

    def run(
        self, cell: Cell, params: Params, xs: Any, start: State, masks: StepMasks, reverse: bool
    ) -> tuple[State, Array]:
        """Return (final state, ys)."""
        if cell.unroll_layers is not None:
            return _unroll_layerwise(self, cell, params, xs, start, masks, reverse)
        if cell.structure is None or cell.structure.linear is None:
            raise invalid(
                "strategy",
                "parallel, for a cell that is not linear in its state",
                "a cell with a linear structure",
                'Use strategy="auto", or build the cell by cells.linear.',
            )
        initial = state_at_resets(cell, as_read(params, xs.dtype), xs, masks)
        return unroll_parallel(cell.structure, params, xs, start, initial, masks, reverse=reverse)


@dataclass(frozen=True)
class Auto:
    """`Fused` where the cell allows it, else `Scan`; decided layer by layer for a stack.

    `Parallel` is never chosen: which one is faster depends on the device.
    """

    def run(
        self, cell: Cell, params: Params, xs: Any, start: State, masks: StepMasks, reverse: bool
    ) -> tuple[State, Array]:
        """Return (final state, ys)."""
        if cell.unroll_layers is not None:
            return _unroll_layerwise(self, cell, params, xs, start, masks, reverse)
        strategy = Fused() if _is_fusible(cell, xs) else Scan()
        return strategy.run(cell, params, xs, start, masks, reverse)


@dataclass(frozen=True)
class Checkpointed:
    """Segments of T, of which only the first states are kept; the rest is run again when needed.

    Attributes:
      levels: number of nested levels. 2 keeps about 2 √T states and runs the forward pass
        once more; each further level does so again, for T^(1/levels) states a level.
      inside: strategy of the innermost segments; "auto" as for `unroll`.
    """

    levels: int = 2
    inside: Scan | Fused | Parallel | Auto | str = "auto"

    def __post_init__(self):
        check_size("levels", self.levels, least=2)
        resolve(self.inside, "inside")

    def run(
        self, cell: Cell, params: Params, xs: Any, start: State, masks: StepMasks, reverse: bool
    ) -> tuple[State, Array]:
        """Return (final state, ys)."""
        inside = resolve(self.inside)
        wide, rounded = for_sums(params)
        initial = state_at_resets(cell, as_read(params, input_dtype(xs)), xs, masks)
        at_padding = masks.at_padding(start, initial, reverse=reverse)

        def segment(state: State, at: Any, levels: Any):
            xs, masks = at
            params = rounded(wide)
            if levels == 1:
                xs = masks.refill(xs, reverse=reverse)
                if masks.valid is None:
                    return inside.run(cell, params, xs, state, masks, reverse)
                # An example that is over takes its first step here, as xs have it in the padding.
                begun = select_state(masks.valid.any(0), state, at_padding)
                final, ys = inside.run(cell, params, xs, begun, masks, reverse)
                return select_state(masks.valid.any(0), final, state), ys
            T = steps_of(xs)
            length = 1  # of a T that is not known yet, `jax.export` of any T
            if isinstance(T, int):
                length = _dividing(T, most=math.ceil(T ** ((levels - 1) / levels)))
            body = jax.checkpoint(lambda s, at: segment(s, at, levels - 1), prevent_cse=False)
            return scan_in_chunks(body, state, at, length, reverse=reverse)

        return segment(start, (xs, masks), self.levels)


Strategy: TypeAlias = Scan | Fused | Parallel | Checkpointed | Auto

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "auto": Auto,
    "scan": Scan,
    "fused": Fused,
    "parallel": Parallel,
    "checkpointed": Checkpointed,
}


def resolve(strategy: Strategy | str, argument: str = "strategy") -> Any:
    """Return the strategy meant by a name. ValueError for what is neither a name nor a strategy."""
    if isinstance(strategy, str) and strategy in STRATEGIES:
        return STRATEGIES[strategy]()
    if isinstance(strategy, Strategy):
        return strategy
    raise invalid(
        argument,
        strategy,
        f"{', '.join(STRATEGIES)}, or an instance of one of their classes",
        "Leave it out for the fastest that the cell allows.",
    )


def run_perturbed(
    strategy: Scan | Fused | Auto,
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    masks: StepMasks,
    reverse: bool,
    perturbations: Perturbations,
) -> tuple[State, Array]:
    """Return (final state, ys) of perturbed steps, fused where the cell and the strategy allow it.

    Perturbations are of the whole state: a stack, whose layers do not have it one by one, is
    scanned as one step.
    """
    structure: Any = cell.structure
    scanned = isinstance(strategy, Scan) or not _is_fusible(cell, xs)
    if scanned or closes_over_traced(structure, params, xs, start):
        final, (_, ys) = scan_steps(cell, params, xs, start, masks, reverse, perturbations)
        return final, ys
    fused = strategy if isinstance(strategy, Fused) else Fused()
    return _fused(fused, cell, params, xs, start, masks, reverse, perturbations)


def _is_fusible(cell: Cell, xs: Any) -> bool:
    """Return whether `Fused` serves: not for `jax.export` of any T."""
    return cell.structure is not None and isinstance(steps_of(xs), int) and is_array(xs)


def _fused(
    strategy: Fused,
    cell: Any,
    params: Params,
    xs: Array,
    start: State,
    masks: StepMasks,
    reverse: bool,
    perturbations: Perturbations | None = None,
) -> tuple[State, Array]:
    return unroll_fused(
        cell.structure,
        params,
        xs,
        start,
        state_at_resets(cell, as_read(params, xs.dtype), xs, masks),
        masks,
        reverse=reverse,
        perturbations=perturbations,
        **strategy.sizes(cell.structure, params, xs, start),
    )


def _unroll_layerwise(
    strategy: Any, cell: Any, params: Params, xs: Any, start: State, masks: Any, reverse: bool
):
    # What stands between the layers (a readout, a normalization) reads params of one precision.
    params = as_read(params, input_dtype(xs))
    return cell.unroll_layers(strategy.run, params, xs, start, masks, reverse)


def _chunk_for(xs: Any) -> int:
    T, *batch, _ = xs.shape
    if not isinstance(T, int):
        return 1
    fewest, most = STEPS_PER_CHUNK
    if not all(isinstance(size, int) for size in batch):
        return _dividing(T, most=min(T, fewest))
    steps = ROWS_PER_CHUNK // max(math.prod(batch), 1)
    return _dividing(T, most=min(T, max(fewest, min(steps, most))))


def _dividing(T: int, most: int) -> int:
    """Return T's largest divisor up to `most`, or `most` if all are less than half of it."""
    return next((n for n in range(most, most // 2, -1) if T % n == 0), most)
