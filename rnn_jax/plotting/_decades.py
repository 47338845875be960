"""Axes of decimal logarithms, of steps and of logarithms of steps, labelled by the numbers."""

from __future__ import annotations

from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

MAX_TICKS = 6


def powers_of_ten(axis: Any) -> None:
    """Label an axis of decimal logarithms by the numbers themselves."""
    axis.set_major_locator(MaxNLocator(nbins=MAX_TICKS, integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(lambda exponent, _: power_of_ten(exponent)))


def power_of_ten(exponent: float) -> str:
    """Return 10^exponent as a text: a power where the exponent is whole."""
    if abs(exponent - round(exponent)) < 1e-6:
        return f"$10^{{{round(exponent)}}}$"
    return f"{10**exponent:.2g}"


def steps_on(axis: Any) -> None:
    """Label an axis at whole numbers of steps."""
    axis.set_major_locator(MaxNLocator(nbins=MAX_TICKS, integer=True, min_n_ticks=1))


def one_two_five(axis: Any) -> None:
    """Label a logarithmic axis by 1, 2, 5, 10: some of them in any range of half a decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plain_numbers(axis)


def plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis by 1, 10, 100 rather than by powers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
