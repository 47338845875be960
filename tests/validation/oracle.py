"""An oracle: what is measured, where its true value comes from, and how far off it may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Measure = Callable[[], float]


class Oracle(NamedTuple):
    """A number that can be known by other means than the code it tests."""

    quantity: str
    """What is computed, and of what."""
    source: str
    """What it is held against."""
    error: str
    """How the difference is expressed: relative, nats, standard errors, a count ..."""
    tolerance: float
    """Largest difference that passes."""
    measure: Measure
    """Computes both, and returns the difference."""

    @property
    def module(self) -> str:
        return self.measure.__module__


ORACLES: list[Oracle] = []


def oracle(
    quantity: str, source: str, error: str, tolerance: float
) -> Callable[[Measure], Measure]:
    """Decorate a function that returns how far a quantity is from its true value."""

    def register(measure: Measure) -> Measure:
        ORACLES.append(Oracle(quantity, source, error, tolerance, measure))
        return measure

    return register
