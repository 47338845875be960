"""Calls in a jaxpr: inlined, or drawn as one operation with the name of the function."""

from __future__ import annotations

from typing import Any

from jax.extend.core import ClosedJaxpr

from rnn_jax.graph.signs import COMPOSITE

CALLS = frozenset(("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call")) | {
    *("remat", "remat2", "checkpoint"),
}


def body_to_inline(eqn: Any) -> ClosedJaxpr | None:
    """Return the body of a call, but None for functions that are drawn by their name."""
    if eqn.primitive.name not in CALLS or composite(eqn):
        return None
    body = _body(eqn)
    return body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())


def composite(eqn: Any) -> str | None:
    """Return the name in `COMPOSITE` of the function that an equation calls."""
    if eqn.primitive.name not in CALLS:
        return None
    info = getattr(getattr(_body(eqn), "jaxpr", None), "debug_info", None)
    name = eqn.params.get("name", getattr(info, "func_name", None))
    return name if name in COMPOSITE else None


def _body(eqn: Any) -> Any:
    return eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
