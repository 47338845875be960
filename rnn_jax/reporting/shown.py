"""What of an array is shown: every n-th entry of what is long, finite numbers, powers of ten."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import numpy as np

LN10 = float(np.log(10))
ALL_OF_IT = "the arrays have all"
"""Where a reader finds what a page leaves out, unless the page says otherwise."""


def escape(text: Any) -> str:
    """Return text for plotly's labels, which read some HTML and `%{..}` of their own."""
    return html.escape(str(text), quote=False).replace("{", "&#123;").replace("$", "&#36;")


def every(count: int, most: int) -> np.ndarray:
    """Return indices of every n-th of `count` entries, and of the last, at most `most` + 1."""
    stride = stride_of(count, most)
    at = np.arange(0, count, stride)
    return at if count == 0 or at[-1] == count - 1 else np.append(at, count - 1)


def stride_of(count: int, most: int) -> int:
    """Return the n of `every`."""
    return max(-(-count // most), 1)


def left_out(count: int, most: int, of: str) -> str:
    """Return the sentence about what `every` leaves out; "" where that is nothing."""
    stride = stride_of(count, most)
    if stride == 1:
        return ""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(stride % 10 if stride % 100 // 10 != 1 else 0, "th")
    return f"Every {stride}{ending} of {count:,} {of} is shown, and the last"


def gaps(values: np.ndarray, scale: str) -> np.ndarray:
    """Return floats, NaN for what cannot be drawn: NaN, infinities, and no logarithm of ≤ 0."""
    values = np.asarray(values)
    floats: Any = values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)
    drawn = np.isfinite(floats)
    if scale == "log":
        drawn &= floats > 0
    return np.where(drawn, floats, np.array(np.nan, floats.dtype))


def decades(values: np.ndarray, scale: str) -> np.ndarray:
    """Return what is drawn of numbers: of natural logarithms decimal ones, others as they are."""
    drawn = gaps(values, scale)
    return (drawn / np.array(LN10, drawn.dtype)) if scale == "ln" else drawn


def said_of_gaps(arrays: Iterable[np.ndarray], scale: str) -> str:
    """Return the sentence about numbers that are drawn as gaps; "" where there are none."""
    zeros = nans = infinite = total = 0
    for array in arrays:
        floats = np.asarray(array).astype(float)
        nothing = floats == -np.inf if scale == "ln" else (floats <= 0) & (scale == "log")
        zeros += int(nothing.sum())
        nans += int(np.isnan(floats).sum())
        infinite += int((np.isinf(floats) & ~nothing).sum())
        total += floats.size
    kinds = {
        "0 (its logarithm is −∞)" if scale == "ln" else "0 or less": zeros,
        "NaN": nans,
        "infinite": infinite,
    }
    counted = [f"{count:,} {'is' if count == 1 else 'are'} {kind}" for kind, count in kinds.items()]
    found = [text for text, count in zip(counted, kinds.values(), strict=True) if count]
    return f"Gaps: of {total:,} numbers {', '.join(found)}." if found else ""
