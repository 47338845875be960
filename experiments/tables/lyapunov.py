"""Tables of Lyapunov spectra against their theory."""

from __future__ import annotations

import numpy as np

from experiments.common.numbers import Result
from experiments.common.report import paragraph, table


def spectra(result: Result, tolerance: float) -> str:
    """Return exponents by gain and by size, and why the mean one fails where it does.

    Args:
      result: measurements of `experiments.lyapunov_theory`.
      tolerance: nats per step between the mean exponent and its theory.
    """
    chaos, sizes = result["chaos"], result["sizes"]
    signed = lambda values: " ".join(f"{x:+.4f}" for x in values)
    by_gain = [
        [
            f"{g:g}",
            signed(chaos["exponents"][i, :, 0]),
            f"{chaos['largest_theory'][i]:+.5f}",
            f"{chaos['standard_errors'][i, :, 0].max():.4f}",
            signed(chaos["exponents"][i].mean(-1)),
            f"{chaos['mean_theory'][i]:+.4f}",
            f"{chaos['trusted'][i].mean():.1%}",
        ]
        for i, g in enumerate(result["gains"])
    ]
    of_gain = ["g", "λ₁ of each network", "theory", "standard error at most"]
    of_gain += ["mean of each network", "theory", "exponents trusted"]
    by_size = [
        [f"{N:d}", f"{dimension.mean():.4f}", f"{entropy.mean():.5f}"]
        for N, dimension, entropy in zip(
            sizes[""], sizes["dimension"], sizes["entropy"], strict=True
        )
    ]
    of_size = ["N", "Kaplan-Yorke dimension / N", "entropy / N (nats per step)"]
    return (
        f"# Lyapunov spectra and their theory\n\nN = {result['units']}, nats per step:\n\n"
        f"{table(by_gain, of_gain)}\n\nOver N, at g = {result['gains'][-1]:g}:\n\n"
        f"{table(by_size, of_size)}{small_networks(result, tolerance)}"
    )


def small_networks(result: Result, tolerance: float) -> str:
    """Return why checks of the mean exponent fail at these N; empty if none does."""
    theory, by_size = result["chaos"]["mean_theory"], result["finite"]["means"]
    missing = theory - result["chaos"]["exponents"].mean((1, 2))
    failed = np.abs(missing) > tolerance
    if not failed.any():
        return ""
    failing = zip(result["gains"][failed], missing[failed], strict=True)
    by_gain = ", ".join(f"{by:+.3f} at g = {g:g}" for g, by in failing)
    shrinking = (theory[failed, None] - by_size[:, failed]).mean((1, 2))
    sizes = zip(result["finite"]["sizes"], shrinking, strict=True)
    why = paragraph(
        "**NO** of a mean exponent, below: theory is that of N → ∞, and near the transition "
        f"networks of N = {result['units']} are too small for it, however many steps are averaged "
        f"over. Theory's mean less the measured one: {by_gain} (nats per step). The exponents are "
        "not what is wrong: their mean is ⟨ln |det J_t|⟩ / N, which is measured without them. It "
        "is N: on average over these gains, what is missing is "
        + ", ".join(f"{by:+.3f} at N = {N}" for N, by in sizes)
        + "."
    )
    return f"\n\n{why}"
