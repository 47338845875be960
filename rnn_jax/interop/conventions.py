r"""The layout of each framework's weights: a table, and nothing else.

Every leaf is written as the gates that it holds, from the first row (output unit) to the last:

| gate        | meaning                                                                         |
| ----------- | ------------------------------------------------------------------------------- |
| U_i W_i b_i | its rows, here for i: U [H, I] for the input, W [H, H] for the state, b [H]     |
| b_n, b'_n   | the bias inside the reset of `gru`, and the one outside                         |
| -U_z        | they hold the negative of ours                                                  |
| b_f-1       | they hold ours less 1, and their code adds it                                   |
| +b_i        | a second bias in the same sum: added on import, zero on export                  |
| .. / ..     | side by side: columns for the input, then columns for the state                 |

What differs, as read in the source of torch 2.13, flax 0.12, haiku 0.0.17 and equinox 0.13:

| framework     | matrices  | gates            | biases                            | lstm state |
| ------------- | --------- | ---------------- | --------------------------------- | ---------- |
| ours          | [out, in] | i f o g; r z n   | one; b_n besides in gru           | (c, h)     |
| torch         | [out, in] | i f g o; r z n   | two, b_ih and b_hh                | (h, c)     |
| equinox       | [out, in] | i f g o; r z n   | one; b_n besides in gru           | (h, c)     |
| linen         | [in, out] | a matrix a gate  | one: the state's in lstm, the     | (c, h)     |
|               |           |                  | input's elsewhere; b_n in gru     |            |
| nnx           | [in, out] | a matrix a gate; | as linen, but no b_n in gru       | (c, h)     |
|               |           | i f g o; r z n   |                                   |            |
| haiku         | [in, out] | i g f o; z r n   | one; two in VanillaRNN            | (h, c)     |

- Reset gate: torch, flax, equinox and our `gru` reset after the product, r ⊙ (W_n h + b_n); haiku
  and our `gru_reset_before` before it, W_n (r ⊙ h).
- Update gate: h' = (1 − z) ⊙ n + z ⊙ h, but in haiku h' = (1 − z) ⊙ h + z ⊙ n. One z is 1 less the
  other, which is the sigmoid of the negative.
- Forget gate: σ(a_f), but σ(a_f + 1) in haiku's LSTM and in the convolutional LSTMs of linen and
  haiku. Where b_f starts is not a matter of weights: 1 in `cells.lstm`, 0 in flax and haiku,
  uniform in torch and equinox.
- Nonlinearity of Elman's network: tanh in flax, relu in haiku, either in torch. It is not in the
  weights: pass it to `cells.elman`.
- linen's MGUCell: h' = f ⊙ h + (1 − f) ⊙ n, where its paper and `cells.mgu` have
  (1 − f) ⊙ h + f ⊙ n; with its reset after the product it is `cells.mgu_reset_after`, with
  `reset_gate=False` it is `cells.ugrnn`.
- haiku's LSTM multiplies one matrix with x and h side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rnn_jax.cells._gru import GRUParams, GRUResetBeforeParams
from rnn_jax.cells._mgu import MGUResetAfterParams
from rnn_jax.cells._structured import AffineParams

OURS: dict[str, tuple[type[Any], dict[str, str]]] = {
    "elman": (AffineParams, {"W": "W", "U": "U", "b": "b"}),
    "lstm": (
        AffineParams,
        {"W": "W_i W_f W_o W_g", "U": "U_i U_f U_o U_g", "b": "b_i b_f b_o b_g"},
    ),
    "gru": (
        GRUParams,
        {"W": "W_r W_z W_n", "U": "U_r U_z U_n", "b": "b_r b_z b'_n", "b_n": "b_n"},
    ),
    "gru_reset_before": (
        GRUResetBeforeParams,
        {"W": "W_r W_z", "W_n": "W_n", "U": "U_r U_z U_n", "b": "b_r b_z b'_n"},
    ),
    "mgu_reset_after": (
        MGUResetAfterParams,
        {"W": "W_f W_n", "U": "U_f U_n", "b": "b_f b'_n", "b_n": "b_n"},
    ),
    "ugrnn": (AffineParams, {"W": "W_g W_n", "U": "U_g U_n", "b": "b_g b'_n"}),
}
"""Class of the params, and the gates of each field, by kind of cell."""


class Layout(NamedTuple):
    """The layout of one of their cells.

    Attributes:
      kind: name of our cell.
      leaves: gates by path; `.` in a path goes into a dict or attribute, `{at}` is `at`.
      at: default place of the leaves: torch's layer, haiku's name of the core.
    """

    kind: str
    leaves: dict[str, str]
    at: str = ""


class Framework(NamedTuple):
    """The layouts of one framework.

    Attributes:
      transposed: whether matrices are [in, out].
      biases_optional: whether a cell may lack its biases.
      layouts: layouts of its cells, by kind.
    """

    transposed: bool
    biases_optional: bool
    layouts: dict[str, Layout]


_LSTM = {
    "weight_ih": "U_i U_f U_g U_o",
    "weight_hh": "W_i W_f W_g W_o",
    "bias_ih": "b_i b_f b_g b_o",
    "bias_hh": "+b_i +b_f +b_g +b_o",
}
_GRU = {
    "weight_ih": "U_r U_z U_n",
    "weight_hh": "W_r W_z W_n",
    "bias_ih": "b_r b_z b'_n",
    "bias_hh": "+b_r +b_z b_n",
}
_ELMAN = {"weight_ih": "U", "weight_hh": "W", "bias_ih": "b", "bias_hh": "+b"}

_LINEN_LSTM = {
    **{f"i{gate}.kernel": f"U_{gate}" for gate in "ifgo"},
    **{f"h{gate}.kernel": f"W_{gate}" for gate in "ifgo"},
    **{f"h{gate}.bias": f"b_{gate}" for gate in "ifgo"},
}
_LINEN_GRU = {
    **{f"i{gate}.kernel": f"U_{gate}" for gate in "rzn"},
    **{f"h{gate}.kernel": f"W_{gate}" for gate in "rzn"},
    **{"ir.bias": "b_r", "iz.bias": "b_z", "in.bias": "b'_n", "hn.bias": "b_n"},
}
_LINEN_MGU = {
    **{f"i{gate}.kernel": f"U_{gate}" for gate in "fn"},
    **{f"h{gate}.kernel": f"W_{gate}" for gate in "fn"},
    **{"if.bias": "b_f", "in.bias": "b'_n", "hn.bias": "b_n"},
}
_LINEN_MGU_WITHOUT_RESET = {
    **{"if.kernel": "U_g", "in.kernel": "U_n", "hf.kernel": "W_g", "hn.kernel": "W_n"},
    **{"if.bias": "b_g", "in.bias": "b'_n"},
}


def _torch(kind: str, leaves: dict[str, str]) -> Layout:
    return Layout(kind, {f"{name}{{at}}": gates for name, gates in leaves.items()}, at="_l0")


THEIRS: dict[str, Framework] = {
    "torch": Framework(
        transposed=False,
        biases_optional=True,
        layouts={
            "elman": _torch("elman", _ELMAN),
            "lstm": _torch("lstm", _LSTM),
            "gru": _torch("gru", _GRU),
        },
    ),
    "equinox": Framework(
        transposed=False,
        biases_optional=True,
        layouts={
            "lstm": Layout(
                "lstm",
                {
                    "weight_ih": _LSTM["weight_ih"],
                    "weight_hh": _LSTM["weight_hh"],
                    "bias": _LSTM["bias_ih"],
                },
            ),
            "gru": Layout(
                "gru",
                {
                    "weight_ih": _GRU["weight_ih"],
                    "weight_hh": _GRU["weight_hh"],
                    "bias": _GRU["bias_ih"],
                    "bias_n": "b_n",
                },
            ),
        },
    ),
    "linen": Framework(
        transposed=True,
        biases_optional=False,
        layouts={
            "elman": Layout("elman", {"i.kernel": "U", "h.kernel": "W", "i.bias": "b"}),
            "lstm": Layout("lstm", _LINEN_LSTM),
            "gru": Layout("gru", _LINEN_GRU),
            "mgu_reset_after": Layout("mgu_reset_after", _LINEN_MGU),
            "ugrnn": Layout("ugrnn", _LINEN_MGU_WITHOUT_RESET),
        },
    ),
    "nnx": Framework(
        transposed=True,
        biases_optional=False,
        layouts={
            "elman": Layout(
                "elman", {"dense_i.kernel": "U", "dense_h.kernel": "W", "dense_i.bias": "b"}
            ),
            # `if` is a keyword of Python.
            "lstm": Layout(
                "lstm", {path.replace("if.", "if_."): leaf for path, leaf in _LINEN_LSTM.items()}
            ),
            "optimized_lstm": Layout(
                "lstm",
                {
                    "dense_i.kernel": _LSTM["weight_ih"],
                    "dense_h.kernel": _LSTM["weight_hh"],
                    "dense_h.bias": _LSTM["bias_ih"],
                },
            ),
            "gru": Layout(
                "gru",
                {
                    "dense_i.kernel": _GRU["weight_ih"],
                    "dense_h.kernel": _GRU["weight_hh"],
                    "dense_i.bias": _GRU["bias_ih"],
                },
            ),
        },
    ),
    "haiku": Framework(
        transposed=True,
        biases_optional=False,
        layouts={
            "elman": Layout(
                "elman",
                {
                    "{at}/linear.w": "U",
                    "{at}/linear_1.w": "W",
                    "{at}/linear.b": "b",
                    "{at}/linear_1.b": "+b",
                },
                at="vanilla_rnn",
            ),
            "lstm": Layout(
                "lstm",
                {
                    "{at}/linear.w": "U_i U_g U_f U_o / W_i W_g W_f W_o",
                    "{at}/linear.b": "b_i b_g b_f-1 b_o",
                },
                at="lstm",
            ),
            "gru_reset_before": Layout(
                "gru_reset_before",
                {
                    "{at}.w_i": "-U_z U_r U_n",
                    "{at}.w_h": "-W_z W_r W_n",
                    "{at}.b": "-b_z b_r b'_n",
                },
                at="gru",
            ),
        },
    ),
}
"""Frameworks by name."""
