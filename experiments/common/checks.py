"""Checks of a claim, number by number: what was measured, and what theory says it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.common.report import paragraph, table


class Check(NamedTuple):
    """One line of a claim: it holds where `low` ≤ `measured` ≤ `high`; NaN never does.

    It is not judged where the run lacks what it `needs`.
    """

    claim: str
    measured: float
    theory: str
    low: float
    high: float
    needs: str = ""

    @property
    def holds(self) -> bool | None:
        """Return whether the claim holds; None where it is not judged."""
        return None if self.needs else self.low <= self.measured <= self.high


def within(claim: str, measured: float, theory: float, tolerance: float) -> Check:
    """Claim that |measured − theory| ≤ tolerance."""
    shown = f"{theory:.6g} ± {tolerance:.2g}"
    return Check(claim, float(measured), shown, theory - tolerance, theory + tolerance)


def at_most(claim: str, measured: float, limit: float) -> Check:
    """Claim that measured ≤ limit."""
    return Check(claim, float(measured), f"≤ {limit:.6g}", -math.inf, limit)


def at_least(claim: str, measured: float, limit: float) -> Check:
    """Claim that measured ≥ limit."""
    return Check(claim, float(measured), f"≥ {limit:.6g}", limit, math.inf)


def judged_if(enough: bool, needs: str, checks: Sequence[Check]) -> list[Check]:
    """Return the checks; they are not judged unless there is `enough` of what they need."""
    more = lambda check: ", ".join(filter(None, (check.needs, needs)))
    return [check if enough else check._replace(needs=more(check)) for check in checks]


def checks_table(checks: Sequence[Check]) -> str:
    """Return all of them as a table in Markdown, and how many hold."""
    verdicts = {True: "yes", False: "**NO**", None: "not judged"}
    rows = [
        [check.claim, f"{check.measured:.6g}", check.theory, verdicts[check.holds]]
        for check in checks
    ]
    judged = [check for check in checks if check.holds is not None]
    counted = f"{sum(bool(check.holds) for check in judged)} of {len(judged)} hold."
    left_out = dict.fromkeys(check.needs for check in checks if check.needs)
    if left_out:
        counted += f" Not judged without: {'; '.join(left_out)}."
    shown = table(rows, ["claim", "measured", "theory", "holds"])
    return f"## Checks\n\n{shown}\n\n{paragraph(counted)}\n"
