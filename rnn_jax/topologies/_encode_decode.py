"""Sequence to sequence: a decoder starts from an encoder's final state."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rnn_jax.cell import Cell, check_cell
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.strategies import Strategy
from rnn_jax.unrolling.unroll import unroll


def encode_decode(
    encoder: Cell,
    params: Params,
    xs: Array,
    decode: Callable[[State], Any],
    *,
    bridge: Callable[[State], State] = lambda state: state,
    initial_state: State | None = None,
    lengths: Array | None = None,
    strategy: Strategy | str = "auto",
) -> Any:
    """Run an encoder over a sequence, and a decoder from its final state.

    ```
    def decode(state):
        return teacher_forcing(decoder, decoder_params, targets_in, 0.5, key, state)

    final, ys = encode_decode(encoder, encoder_params, xs, decode, lengths=lengths)
    ```

    Args:
      encoder, params, initial_state, xs, lengths, strategy: as for `unroll`.
      decode: function of the decoder's initial state that runs it, by `unroll`,
        `teacher_forcing`, `unroll_feedback` or `generate`.
      bridge: maps the encoder's final state to the decoder's initial state, where they differ.

    Returns:
      What `decode` returns.

    Reference: Sutskever, Vinyals and Le, Sequence to sequence learning (2014), arXiv 1409.3215.
    """
    check_cell("encoder", encoder)
    run = functools.partial(unroll, lengths=lengths, strategy=strategy)
    final, _ = run(encoder, params, xs, initial_state)
    return decode(bridge(final))
