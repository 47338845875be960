"""Weights of torch, linen, nnx, haiku and equinox as parameters of our cells, and back.

`rnn_jax.interop.conventions` is the table of what differs. Exact to the last bit are:

- ours to theirs to ours, but for haiku's LSTM, whose b_f is stored less 1: there (b_f − 1) + 1 is
  b_f to rounding, and exact for the 1 that our forget bias starts from.
- theirs to ours to theirs where they have as many biases as we do, with the same exception. A
  second bias (torch's b_hh, that of haiku's VanillaRNN) comes back as zero and the first as the
  sum of the two, which is the same network; one that was built without biases has zeros for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import choose, invalid, optional
from rnn_jax.interop.conventions import OURS, THEIRS, Framework, Layout
from rnn_jax.interop.gates import parse, read, write
from rnn_jax.types import Array, Params


def import_weights(framework: str, kind: str, weights: Any, *, at: str | None = None) -> Params:
    """Return another framework's weights as the params of our cell.

    ```
    params = import_weights("torch", "lstm", torch_lstm)  # for cells.lstm(H)
    layers = [import_weights("torch", "gru", torch_gru, at=f"_l{k}") for k in range(2)]
    ```

    Args:
      framework: "torch", "linen", "nnx", "haiku" or "equinox".
      kind: "elman", "lstm", "gru", "gru_reset_before", "mgu_reset_after" or "ugrnn", of those that
        the framework has; "optimized_lstm" for that of nnx, whose leaves are not its LSTMCell's.
      weights: torch: a module or a `state_dict`, of tensors or numpy arrays. linen:
        `variables["params"]` of the cell. nnx: the cell, `nnx.state` of it, or that as a pure dict.
        haiku: the params of the transformed function. equinox: the cell.
      at: where there are several. torch: the end of the names, "_l0", "_l1", "_l0_reverse", or ""
        for torch's own cells (`LSTMCell`). haiku: the name of the core, as in
        "my_network/~/lstm". Elsewhere, index `weights`.

    Returns:
      Params in the dtype of the weights, differentiable with respect to them.

    Raises:
      ValueError: an unknown framework, or a kind that it does not have; a leaf that is missing, of
        another shape, or that the kind does not have, such as the projection of a torch LSTM.
    """
    theirs = choose("framework", framework, THEIRS)
    layout = choose("kind", kind, theirs.layouts)
    leaves = _placed(layout, at)
    if hasattr(weights, "state_dict"):
        weights = weights.state_dict()
    _refuse_others(weights, leaves, at)

    arrays = {}
    for path, leaf in leaves.items():
        value = _get(weights, path)
        if value is not None:
            arrays[path] = _as_array(f"weights[{path!r}]", value)
        elif not _may_lack(theirs, leaf):
            remedy = f"A {framework} {kind} has {', '.join(leaves)}; see `at`."
            raise invalid("weights", f"no {path!r}", path, remedy)

    gates = read("weights", leaves, arrays, theirs.transposed)
    params_type, fields = OURS[layout.kind]
    zeros = jnp.zeros_like(next(b for name, b in gates.items() if name.startswith("W"))[0])
    for name in _names(fields):
        gates.setdefault(name, zeros)  # a bias that they lack
    return params_type(**{field: write(leaf, gates, False) for field, leaf in fields.items()})


def export_weights(framework: str, kind: str, params: Params, *, at: str | None = None) -> Any:
    """Return our params as another framework's weights.

    ```
    torch_lstm.load_state_dict(
        {name: torch.from_numpy(w) for name, w in export_weights("torch", "lstm", params).items()}
    )
    nnx.update(nnx_cell, export_weights("nnx", "lstm", params))
    ```

    Args:
      framework: as for `import_weights`.
      kind: as for `import_weights`.
      params: params of our cell of this kind.
      at: as for `import_weights`: what the names end with in torch, the core's name in haiku.

    Returns:
      torch: a dict of numpy arrays, named as in `state_dict`; layers are merged by `|`. linen: the
      cell's `variables["params"]`. nnx: a pure dict for `nnx.update`. haiku: params. equinox: a
      cell of `equinox.nn`.

    Raises:
      ValueError: an unknown framework or kind; params of another kind, or with a shape that does
        not fit; a b_n that is not zero for nnx's GRUCell, which has none.
    """
    theirs = choose("framework", framework, THEIRS)
    layout = choose("kind", kind, theirs.layouts)
    leaves = _placed(layout, at)
    params_type, fields = OURS[layout.kind]
    if not isinstance(params, params_type):
        remedy = "Pass the params of the cell itself; of a readout, params.cell."
        raise invalid("params", type(params).__name__, params_type.__name__, remedy)

    ours = {field: _as_array(f"params.{field}", getattr(params, field)) for field in fields}
    gates = read("params", fields, ours, False)
    # What they have no place for may be dropped only where it does nothing: b_n of a GRU in nnx.
    for name in set(gates) - _names(leaves):
        if bool(jnp.any(gates[name] != 0)):
            remedy = "Train with it at zero, or export to a framework that has it."
            raise invalid("params", f"{name} that is not zero", f"{framework} has none", remedy)
    arrays = {path: write(leaf, gates, theirs.transposed) for path, leaf in leaves.items()}
    if framework == "torch":
        return {path: np.array(array) for path, array in arrays.items()}
    if framework == "equinox":
        return _equinox_cell(kind, arrays)
    return _nested(arrays)


def _names(leaves: Mapping[str, str]) -> set[str]:
    parsed = map(parse, leaves.values())
    return {gate.name for leaf in parsed for column in leaf.columns for gate in column}


def _may_lack(theirs: Framework, leaf: str) -> bool:
    bias = parse(leaf)
    return bias.is_second_bias or (theirs.biases_optional and bias.is_bias)


def _placed(layout: Layout, at: str | None) -> dict[str, str]:
    if not isinstance(at, str | None):
        raise invalid("at", at, "text, or None for where one layer is", 'Pass "_l1", say.')
    at = layout.at if at is None else at
    return {path.format(at=at): leaf for path, leaf in layout.leaves.items()}


def _get(weights: Any, path: str):
    """Return the value at a dotted path of keys and attributes; None where there is none."""
    for name in path.split("."):
        if isinstance(weights, Mapping):
            weights = weights.get(name)
        else:
            weights = getattr(weights, name, None)
    return weights


def _as_array(argument: str, value: Any) -> Array:
    """Return `value` as an array of floats. ValueError for anything else."""
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu().numpy()
    # An nnx variable holds its array in `value`; arrays themselves may have that attribute too.
    value = getattr(value, "value", value) if not hasattr(value, "dtype") else value
    if not hasattr(value, "shape") or not jnp.issubdtype(value.dtype, jnp.floating):
        raise invalid(argument, value, "an array of floats", "Pass the weights as they are stored.")
    return jnp.asarray(value)


def _paths(weights: Any, prefix: Any = ""):
    if not isinstance(weights, Mapping):
        return [prefix[:-1]]
    return [path for name in weights for path in _paths(weights[name], f"{prefix}{name}.")]


def _refuse_others(weights: Any, leaves: Any, at: Any):
    """Raise ValueError for a leaf that would be ignored; those of other places may be."""
    if not isinstance(weights, Mapping):
        return
    for path in _paths(weights):
        here = at is None or path.endswith(at) or path.startswith((f"{at}/", f"{at}."))
        if here and path not in leaves:
            raise invalid(
                "weights",
                f"also {path!r}",
                ", ".join(leaves),
                "Several layers or directions are imported one by one, each with its own `at`; "
                "what the cell does not have (a projection, proj_size) cannot be.",
            )


def _nested(arrays: Mapping[str, Array]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = array
    return tree


def _equinox_cell(kind: str, arrays: Mapping[str, Array]):
    eqx = optional("equinox", "pip install equinox, or the extra [bench]")

    H, I = arrays["weight_hh"].shape[1], arrays["weight_ih"].shape[1]
    make = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[kind]
    cell = make(I, H, dtype=arrays["weight_hh"].dtype, key=jax.random.key(0))
    where = lambda cell: [getattr(cell, name) for name in arrays]
    return eqx.tree_at(where, cell, list(arrays.values()))
