"""Checks of a claim, number by number: what was measured, and what theory says it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.common.report import paragraph, spread, table


class Check(NamedTuple):
    """One line of a claim: it holds where `low` ≤ `measured` ≤ `high`; NaN never does.

    It is not judged where the run lacks what it `needs`. Of a published result, `source` is the
    publication, `theory` what stands there, `values` are ours, one for each seed or network, and
    `measured` is their median.
    """

    claim: str
    measured: float
    theory: str
    low: float
    high: float
    needs: str = ""
    source: str = ""
    values: tuple[float, ...] = ()

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


def published(
    claim: str,
    values: Any,
    paper: str,
    source: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Check:
    """Claim that the median of `values` is from `low` to `high`, as a publication has it.

    Of no values it is NaN, which claims nothing.
    """
    ours = tuple(np.atleast_1d(np.asarray(values, float)).tolist())
    # Between an infinite value and another one there is nothing to interpolate.
    method: Any = "linear" if np.isfinite(ours).all() else "nearest"
    middle = float(np.percentile(ours, 50, method=method)) if ours else math.nan
    return Check(claim, middle, paper, low, high, source=source, values=ours)


def judged_if(enough: bool, needs: str, checks: Sequence[Check]) -> list[Check]:
    """Return the checks; they are not judged unless there is `enough` of what they need."""
    more = lambda check: ", ".join(filter(None, (check.needs, needs)))
    return [check if enough else check._replace(needs=more(check)) for check in checks]


VERDICTS = {True: "yes", False: "**NO**", None: "not judged"}


def checks_table(checks: Sequence[Check]) -> str:
    """Return all of them as tables in Markdown, and how many hold."""
    theory = [check for check in checks if not check.source]
    papers = [check for check in checks if check.source]
    tables = []
    if papers:
        headers = ["claim", "paper", "ours, median (10 %–90 %)", "asked", "reached"]
        rows = [
            [check.claim, check.theory, shown(check), asked(check), VERDICTS[check.holds]]
            for check in papers
        ]
        tables.append(table(rows, headers))
    if theory or not papers:
        rows = [
            [check.claim, f"{check.measured:.6g}", check.theory, VERDICTS[check.holds]]
            for check in theory
        ]
        tables.append(table(rows, ["claim", "measured", "theory", "holds"]))
    judged = [check for check in checks if check.holds is not None]
    counted = f"{sum(bool(check.holds) for check in judged)} of {len(judged)} hold."
    left_out = dict.fromkeys(check.needs for check in checks if check.needs)
    if left_out:
        counted += f" Not judged without: {'; '.join(left_out)}."
    return "## Checks\n\n" + "\n\n".join((*tables, paragraph(counted))) + "\n"


def shown(check: Check) -> str:
    """Return what a published result is here: the median and spread of its values."""
    if not check.values:
        return "–"
    return spread(np.array(check.values), ",.4g" if abs(check.measured) < 1e4 else ",.0f")


def asked(check: Check) -> str:
    """Return the limits of a check."""
    form = lambda value: f"{value:,.6g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if check.low == check.high:
        return form(check.low)
    if math.isinf(check.high):
        return f"≥ {form(check.low)}"
    return (
        f"≤ {form(check.high)}"
        if math.isinf(check.low)
        else (f"{form(check.low)} to {form(check.high)}")
    )
