"""What an experiment claims, number by number: what was measured, and what theory says it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.common.report import table


class Check(NamedTuple):
    """One line of a claim: it holds where `low` ≤ `measured` ≤ `high`; NaN never does."""

    claim: str
    measured: float
    theory: str
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.low <= self.measured <= self.high


def within(claim: str, measured: float, theory: float, tolerance: float) -> Check:
    """|measured − theory| ≤ tolerance."""
    shown = f"{theory:.6g} ± {tolerance:.2g}"
    return Check(claim, float(measured), shown, theory - tolerance, theory + tolerance)


def at_most(claim: str, measured: float, limit: float) -> Check:
    return Check(claim, float(measured), f"≤ {limit:.6g}", -math.inf, limit)


def at_least(claim: str, measured: float, limit: float) -> Check:
    return Check(claim, float(measured), f"≥ {limit:.6g}", limit, math.inf)


def checks_table(checks: Sequence[Check]) -> str:
    """All of them, in Markdown, and how many hold."""
    rows = [
        [check.claim, f"{check.measured:.6g}", check.theory, "yes" if check.holds else "**NO**"]
        for check in checks
    ]
    counted = f"{sum(c.holds for c in checks)} of {len(checks)} hold."
    return f"## Checks\n\n{table(['claim', 'measured', 'theory', 'holds'], rows)}\n\n{counted}\n"
