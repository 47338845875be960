"""Signs of JAX's primitives, as in mathematics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNARY = {
    "tanh": "tanh",
    "logistic": r"$\sigma$",
    "neg": "−",
    "abs": r"$|\cdot|$",
    "square": r"$(\cdot)^2$",
    "sqrt": r"$\sqrt{\cdot}$",
    "rsqrt": r"$1/\sqrt{\cdot}$",
    "cbrt": r"$\sqrt[3]{\cdot}$",
    "real": "Re",
    "imag": "Im",
    "conj": "conj",
    "is_finite": "finite?",
    "stop_gradient": "stop",
    "lgamma": r"$\log\Gamma$",
    "exp2": r"$2^{(\cdot)}$",
    **{name: name for name in ("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin")},
    **{name: name for name in ("acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")},
    **{name: name for name in ("erf", "erfc", "erf_inv", "digamma", "sign", "floor", "ceil")},
    **{name: name for name in ("round", "not", "integer_pow")},
}
NARY = {
    "add": "+",
    "add_any": "+",
    "sub": "+",
    "mul": r"$\odot$",
    "div": "÷",
    "max": "max",
    "min": "min",
    "pow": "pow",
    "rem": "mod",
    "atan2": "atan2",
    "complex": r"$a+\mathrm{i}b$",
    "select_n": "select",
    "clamp": "clip",
    "nextafter": "nextafter",
    "eq": "=",
    "ne": "≠",
    "lt": "<",
    "le": "≤",
    "gt": ">",
    "ge": "≥",
    "and": "and",
    "or": "or",
    "xor": "xor",
}
COMPOSITE = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "log_sigmoid": r"$\log\sigma$",
    **{name: name for name in ("softplus", "silu", "gelu", "elu", "selu", "celu", "clip")},
    **{name: name for name in ("leaky_relu", "hard_tanh", "hard_sigmoid", "soft_sign")},
    **{name: name for name in ("logaddexp", "logaddexp2")},
}
"""Elementwise functions of `jax.nn` and `jax.numpy` that are drawn as one operation, by name."""

OTHER = {
    "dot_general": r"$\times$",
    "concatenate": "[ ; ]",
    "reduce_sum": r"$\sum$",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": r"$\prod$",
    "cumsum": "cumsum",
    "fft": "FFT",
    "conv_general_dilated": r"$\ast$",
}
ELEMENTWISE = UNARY.keys() | NARY.keys()
TRANSPARENT = frozenset(
    ("reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "copy", "copy_p")
) | {"reduce_precision", "name", "device_put", "sharding_constraint", "pvary"}
NO_GRADIENT = frozenset(("stop_gradient", "sign", "floor", "ceil", "round", "is_finite"))
"""Primitives of inexact results with no gradient; integers and booleans have none anyhow."""

MARKS = {
    "sub": ("", "−"),
    "div": ("", "÷"),
    "rem": ("", "mod"),
    "pow": ("", "exponent"),
    "select_n": ("if", *[""] * 9),
}


def marks(name: str, count: int) -> Sequence[str]:
    """Return the mark of each operand of a primitive that does not treat them alike."""
    return MARKS.get(name, ("",) * count)[:count]


def sign(name: str, params: dict[str, Any], operands: Sequence[str | None]) -> str:
    """Return the sign of a primitive, or of a function in `COMPOSITE`.

    Args:
      name: name of it.
      params: parameters of its equation.
      operands: number, or "const", of each operand that is constant; None for the others.
    """
    if name in COMPOSITE:
        return COMPOSITE[name]
    if name == "integer_pow":
        return rf"$(\cdot)^{{{params['y']}}}$"
    if name == "convert_element_type":
        return str(params["new_dtype"])
    if name in OTHER:
        return OTHER[name] + " const" * (name == "dot_general" and any(operands))
    constants = [operand for operand in operands if operand is not None]
    if not constants or len(operands) != 2:
        return UNARY.get(name) or NARY.get(name) or name.replace("_", " ")
    (constant,), first = constants, operands[0] is not None
    if name == "sub":
        return f"{constant} −" if first else f"− {constant}"
    if name == "div":
        return f"{constant} ÷" if first else f"÷ {constant}"
    if name in ("max", "min", "pow", "atan2", "rem"):
        return f"{NARY[name]}({constant}, ·)" if first else f"{NARY[name]}(·, {constant})"
    if name == "mul":
        return f"{constant} ×" if constant != "const" else r"$\odot$ const"
    return f"{NARY.get(name, name)} {constant}"
