"""Activations φ, by name or as functions, with the sup |φ'| of the norm bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.cell import NormBoundTerms
from rnn_jax.errors import check_positive, describe, invalid, is_traced
from rnn_jax.types import Array, Params


class Activation(NamedTuple):
    """An elementwise φ and sup |φ'|, None where that is unknown: then there is no norm bound."""

    phi: Callable[[Array], Array]
    sup_derivative: float | None = None

    def norm_bound_terms(
        self, W: Callable[[Params], Array]
    ) -> Callable[[Params], NormBoundTerms] | None:
        """Return `Cell.norm_bound_terms` for J = W diag(φ') or diag(φ') W."""
        if self.sup_derivative is None:
            return None
        bound: float = self.sup_derivative
        return lambda params: NormBoundTerms(W(params), bound)


ACTIVATIONS = {
    "tanh": Activation(jnp.tanh, 1.0),
    "sigmoid": Activation(jax.nn.sigmoid, 0.25),
    "relu": Activation(jax.nn.relu, 1.0),
    "identity": Activation(lambda a: a, 1.0),
}
"""Activations by the names that cells take."""

ActivationLike: TypeAlias = str | Callable[[Array], Array] | Activation
"""A name of `ACTIVATIONS`, an elementwise function, or an `Activation`."""


def activation_of(argument: str, activation: Any, dtype: DTypeLike) -> Activation:
    """Return the Activation that `activation` stands for.

    Raises:
      ValueError: an unknown name; a function that is not elementwise or changes the dtype; a
        supremum that is not positive.
    """
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if isinstance(activation, str) or not callable(getattr(activation, "phi", activation)):
        raise invalid(
            argument,
            describe(activation),
            f"one of {', '.join(ACTIVATIONS)}, or a function",
            "Pass one of these names, or an elementwise function: jax.nn.gelu, say.",
        )
    found = activation if isinstance(activation, Activation) else Activation(activation)
    _check_elementwise(argument, found.phi, dtype)
    if found.sup_derivative is not None:
        check_positive(f"{argument}.sup_derivative", found.sup_derivative)
    return found


def _check_elementwise(argument: str, phi: Callable[[Array], Array], dtype: DTypeLike) -> None:
    """Raise ValueError unless φ is elementwise and keeps its dtype."""
    name = getattr(phi, "__name__", type(phi).__name__)
    expected = f"an elementwise function that keeps its dtype, {jnp.dtype(dtype)}"
    remedy = "A step that mixes units is built by cells.gated."
    # A function that mixes units, softmax say, would make wrong Jacobians without a word: the
    # structures of cells promise that unit n depends on unit n. So φ of a vector is compared with φ
    # of its elements, in values and not in shapes alone, also where a cell is made under `jit`.
    with jax.ensure_compile_time_eval():
        a = jnp.asarray([0.3, -1.2, 2.0], dtype)
        try:
            whole, parts = phi(a), [phi(a[n : n + 1]) for n in range(3)]
        except Exception as error:
            text = f"{name}, which fails with {type(error).__name__}"
            raise invalid(argument, text, expected, remedy) from error
        if getattr(whole, "shape", None) != (3,) or whole.dtype != a.dtype:
            raise invalid(argument, f"{name}, which returns {describe(whole)}", expected, remedy)
        if is_traced(whole):
            return  # it reads a traced value, as a learned slope is
        values = np.concatenate([np.asarray(part, float) for part in parts])
        if not np.allclose(np.asarray(whole, float), values, rtol=0.05, equal_nan=True):
            raise invalid(argument, f"{name}, which mixes the elements", expected, remedy)
