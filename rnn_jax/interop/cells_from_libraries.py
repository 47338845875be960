"""A recurrent cell of Flax linen, Flax nnx, Equinox or Haiku as a Cell.

| from         | params                       | state                        | y               |
| ------------ | ---------------------------- | ---------------------------- | --------------- |
| linen        | variables["params"]          | the carry                    | the output      |
| nnx          | the module's Params, a dict  | the carry                    | the output      |
| haiku        | what `hk.transform` inits    | the core's state             | the output      |
| equinox      | the module itself            | h; (h, c) of an LSTMCell     | h               |

Each step is the peer's own, for one example, and batch axes are mapped over it as in
`cells.from_function`; a cell that draws random numbers or updates variables of its own at every
step is refused. The state starts in the dtype of the parameters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells.function import from_function
from rnn_jax.cells.maker import named
from rnn_jax.errors import check_dtype, check_function, check_size, describe, invalid, optional
from rnn_jax.types import Array, Key, Params, State


@named
def from_linen(module: Any, *, input_shape: tuple[int, ...] | None = None) -> Cell:
    """Return a Flax linen cell, `module(carry, x) -> (carry, y)`, as a Cell.

    ```
    cell = from_linen(nn.LSTMCell(64))
    ```

    Args:
      module: an `nn.RNNCellBase`. A random `carry_init` is drawn with key 0, as `nn.RNN` does.
      input_shape: shape of one input with more than one axis, as a convolutional cell's
        `(height, width, channels)`. The Cell then takes `x [*batch, I]` with I the product of
        these, and its y is flattened likewise.

    Raises:
      ValueError: a module that has variables other than parameters; an input size that is not that
        of `input_shape`.
    """
    if not hasattr(module, "initialize_carry") or isinstance(module, type):
        remedy = "Pass nn.LSTMCell(64), say; other modules fit cells.from_function."
        raise invalid("module", module, "an nn.RNNCellBase", remedy)
    reshape = _Reshape(input_shape)

    def carry():
        return module.initialize_carry(jax.random.key(0), input_shape or (1,))

    def init(key: Key, input_size: int):
        start = carry()
        variables = module.init(key, start, reshape.zeros(input_size, _dtypes(start).pop()))
        _refuse_variables(sorted(set(variables) - {"params"}))
        return variables.get("params", {})

    def step(params: Params, state: State, x: Array):
        state, y = module.apply({"params": params}, state, reshape(x))
        return state, reshape.flat(y)

    return _cell(init, lambda params: carry(), step)


@named
def from_nnx(module: Any) -> Cell:
    """Return a Flax nnx cell, `module(carry, x) -> (carry, y)`, as a Cell.

    ```
    cell = from_nnx(lambda in_features, rngs: nnx.LSTMCell(in_features, 64, rngs=rngs))
    ```

    Args:
      module: a constructor `(in_features, rngs) -> nnx.Module`, or a module. A module that was
        built already has one set of parameters, and `init` returns those for any key. Its carry
        may depend on its parameters and hidden sizes, not on `in_features`.

    Raises:
      ValueError: a module with variables that are not `nnx.Param`s.
    """
    from flax import nnx

    built = isinstance(module, nnx.Module)
    if not built:
        check_function("module", module, "(in_features, rngs) -> nnx.Module, or a module")

    # A module is split into its parameters, which are the Cell's, and its static definition, which
    # is the same for all of them and is made once for each number of inputs, without computing.
    @functools.cache
    def graph(in_features: Any):
        make = lambda: module if built else module(in_features, nnx.Rngs(0))
        split: Any = nnx.split(make() if built else nnx.eval_shape(make), nnx.Param, ...)
        graphdef, _, other = split
        _refuse_variables([".".join(map(str, path)) for path in nnx.to_flat_state(other).paths])
        return graphdef

    def init(key: Key, input_size: int):
        graph(input_size)
        made = module if built else module(input_size, nnx.Rngs(key))
        return nnx.to_pure_dict(nnx.state(made, nnx.Param))

    def start(params: Params):
        return nnx.merge(graph(1), params).initialize_carry((1,), nnx.Rngs(0))

    def step(params: Params, state: State, x: Array):
        return nnx.merge(graph(x.shape[-1]), params)(state, x)

    return _cell(init, start, step)


@named
def from_haiku(
    make_core: Callable[[], Any],
    *,
    input_shape: tuple[int, ...] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    """Return a Haiku core, `core(x, state) -> (y, state)`, as a Cell.

    ```
    cell = from_haiku(lambda: hk.LSTM(64))
    ```

    Args:
      make_core: function, called inside `hk.transform`, that returns an `hk.RNNCore` whose input is
        one array.
      input_shape: as for `from_linen`.
      dtype: dtype of the parameters that `init` makes.

    Raises:
      ValueError: an input size that is not that of `input_shape`, or what `hk.transform` refuses:
        random numbers in a step, `hk.set_state`.
    """
    hk = optional("haiku", "pip install dm-haiku, or the extra [bench]")

    check_function("make_core", make_core, "() -> hk.RNNCore")
    check_dtype("dtype", dtype)
    reshape = _Reshape(input_shape)
    initial_state = hk.transform(lambda: make_core().initial_state(None))

    transformed = hk.transform(lambda x, state: make_core()(x, state))

    @hk.transform
    def from_the_start(x: Array):
        # Haiku makes the parameters that a function asks for, and a learned initial state is one of
        # them: without the call below `init` would leave it out.
        core = make_core()
        return core(x, _cast(core.initial_state(None), x.dtype))

    def init(key: Key, input_size: int):
        return from_the_start.init(key, reshape.zeros(input_size, dtype))

    def step(params: Params, state: State, x: Array):
        y, state = transformed.apply(params, None, reshape(x), state)
        return state, reshape.flat(y)

    return _cell(init, lambda params: initial_state.apply(params, None), step)


@flax.struct.dataclass
class Static:
    """A leaf of an Equinox module that is not a parameter, such as an activation function."""

    value: Any = flax.struct.field(pytree_node=False)


@named
def from_equinox(
    module: Any,
    state: State | Callable[[Any], State] | None = None,
    step: Callable[[Any, State, Array], tuple[State, Array]] | None = None,
) -> Cell:
    """Return an Equinox cell, `module(x, state) -> state`, as a Cell.

    ```
    cell = from_equinox(lambda input_size, key: eqx.nn.LSTMCell(input_size, 64, key=key))
    ```

    Args:
      module: a constructor `(input_size, key) -> eqx.Module`, or a module. A module that was built
        already has one set of parameters, and `init` returns those for any key.
      state: initial state of one example, or a function of the module that returns it; optional for
        the cells of `equinox.nn`, which start from zero.
      step: `(module, state, x) -> (state, y)` for a module that is called in another way, or whose
        y is not the first leaf of its state.

    Returns:
      A Cell whose params are the module, with `Static` around each leaf that is no parameter.
      `import_weights("equinox", ..)` reads such a module as any other.

    Raises:
      ValueError: a module of unknown initial state; a leaf that is an array of integers.
    """
    eqx = optional("equinox", "pip install equinox, or the extra [bench]")

    if not isinstance(module, eqx.Module):
        check_function("module", module, "(input_size, key) -> eqx.Module, or a module")
    if step is not None:
        check_function("step", step, "(module, state, x) -> (state, y)")

    def init(key: Key, input_size: int):
        made = module if isinstance(module, eqx.Module) else module(input_size, key)
        return jax.tree.map(_parameter_or_static, made)

    def start(params: Params):
        if state is not None:
            return state(_module(params)) if callable(state) else state
        if not isinstance(params, eqx.nn.GRUCell | eqx.nn.LSTMCell):
            raise invalid(
                "state",
                f"None for {type(params).__name__}",
                "the state that one example starts from",
                "Pass from_equinox(.., state=jnp.zeros(H)) or a function of the module.",
            )
        h = jnp.zeros(params.hidden_size, params.weight_hh.dtype)
        return (h, h) if isinstance(params, eqx.nn.LSTMCell) else h

    def own_step(module: Any, state: State, x: Array):
        state = module(x, state)
        return state, jax.tree.leaves(state)[0]

    return _cell(init, start, lambda p, s, x: (step or own_step)(_module(p), s, x))


def _parameter_or_static(leaf: Any):
    if not hasattr(leaf, "dtype"):
        return Static(leaf)
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        raise invalid(
            "module",
            f"a leaf {describe(leaf)}",
            "floating arrays, which are parameters, and leaves that are not arrays",
            "Make it a static field, eqx.field(static=True), of the module.",
        )
    return leaf


def _module(params: Params):
    is_static = lambda leaf: isinstance(leaf, Static)
    unwrap = lambda leaf: leaf.value if is_static(leaf) else leaf
    return jax.tree.map(unwrap, params, is_leaf=is_static)


class _Reshape:
    """The reshaping of `x [I]` to the shape that a peer wants, and of its y to one axis."""

    def __init__(self, shape: tuple[int, ...] | None):
        if shape is not None:
            if not isinstance(shape, tuple | list):
                remedy = "Pass (height, width, channels), say."
                raise invalid("input_shape", shape, "a tuple of sizes", remedy)
            shape = tuple(check_size(f"input_shape[{n}]", size) for n, size in enumerate(shape))
        self.shape = shape

    def __call__(self, x: Array) -> Array:
        return x if self.shape is None else x.reshape(self.shape)

    def flat(self, y: Array) -> Array:
        return y if self.shape is None else y.ravel()

    def zeros(self, input_size: int, dtype: DTypeLike) -> Array:
        if self.shape is not None and math.prod(self.shape) != input_size:
            expected = f"{math.prod(self.shape)}, the product of input_shape {self.shape}"
            raise invalid("input_size", input_size, expected, "Pass the one that fits the other.")
        return self(jnp.zeros(input_size, dtype))


def _cell(
    init: Callable[[Key, int], Params],
    start: Callable[[Params], State],
    step: Callable[[Params, State, Array], tuple[State, Array]],
) -> Cell:
    # Peers start from float32 zeros whatever their parameters are; a step would then return another
    # dtype than it was given, which no scan takes.
    def start_in_dtype(params: Params):
        dtypes = _dtypes(params)
        state = jax.tree.map(jnp.asarray, start(params))
        return _cast(state, dtypes.pop()) if len(dtypes) == 1 else state

    return from_function(step, start_in_dtype, init)


def _dtypes(tree: Any) -> set:
    return {a.dtype for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating)}


def _cast(tree: Any, dtype: Any):
    is_float = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, tree)


def _refuse_variables(names: list[str]) -> None:
    if names:
        raise invalid(
            "module",
            f"variables {', '.join(names)}",
            "parameters only",
            "A Cell's step is pure: what it changes belongs to its state, and it draws no numbers.",
        )
