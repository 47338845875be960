"""Figures of Lyapunov spectra: arrays in, Figure out. Exponents are in nats per step."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common.numbers import Result
from rnn_jax.plotting.style import BOUND, MEASURED, MUTED, PRODUCT, STYLE

NATS = "nats per step"


def theory(
    result: Result,
    published: Mapping[str, float],
    tolerances: Mapping[str, float],
) -> Figure:
    """Draw spectra of random networks and of products of random matrices against their theory.

    Args:
      result: measurements of `experiments.lyapunov_theory`.
      published: `dimension` and `entropy` a unit.
      tolerances: tolerances of the `largest` exponent and of the `mean`, shown as bands.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.8), layout="constrained")
        (spectra, errors, trace), (circular, products, sizes) = figure.subplots(2, 3)
        _spectra(spectra, result)
        _errors(errors, result, tolerances)
        _trace(trace, result)
        _circular(circular, result)
        _products(products, result)
        _sizes(sizes, result, published)
    return figure


def finite_size(result: Result, tolerance: float) -> Figure:
    """Draw by N how far the mean exponent is from the theory of infinitely many units.

    Args:
      result: measurements of `experiments.lyapunov_theory`.
      tolerance: shown as a band.
    """
    sizes, gains = result["finite"]["sizes"], result["gains"]
    errors = result["finite"]["means"] - result["chaos"]["mean_theory"][:, None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        ax = figure.subplots()
        ax.axhspan(-tolerance, tolerance, color=MUTED, alpha=0.15, lw=0)
        ax.axhline(0, color="black", lw=0.6)
        for i, g in enumerate(gains):
            color, place = _shade(i, len(gains)), sizes * 1.05 ** (i - (len(gains) - 1) / 2)
            ax.plot(place, errors[:, i], ".", color=color, ms=5, alpha=0.5)
            ax.plot(place, errors[:, i].mean(-1), "D-", color=color, ms=4, lw=1, label=f"{g:g}")
        ax.set(xscale="log", xlabel="N", xticks=sizes, xticklabels=[f"{N:d}" for N in sizes])
        ax.set_ylabel(f"mean exponent − theory  ({NATS})")
        ax.minorticks_off()
        ax.set_title(
            f"mean-field theory is that of large N\n(dots: networks; band: ± {tolerance:g})"
        )
        ax.legend(title="g", loc="lower right", ncols=2, fontsize=8, title_fontsize=8)
    return figure


def deviations(products: Result) -> np.ndarray:
    """Return (measured − Newman's law) / standard error of each exponent."""
    return (products["exponents"] - products["law"]) / products["standard_errors"]


def _shade(i: int, n: int):
    return matplotlib.colormaps["viridis"](0.9 * i / max(n - 1, 1))


def _spectra(ax: Axes, result: Result) -> None:
    gains = result["gains"]
    for i, g in enumerate(gains):
        exponents = result["chaos"]["exponents"][i].mean(0)
        place = (np.arange(len(exponents)) + 0.5) / len(exponents)
        color = _shade(i, len(gains))
        ax.plot(place, exponents, color=color, label=f"{g:g}")
        ax.plot(0, result["chaos"]["largest_theory"][i], "o", color=color, ms=4, clip_on=False)
        ax.axhline(result["chaos"]["mean_theory"][i], color=color, ls=":", lw=1)
    ax.axhline(0, color="black", lw=0.6)
    ax.set(xlabel="i / N", ylabel=f"$\\lambda_i$  ({NATS})", ylim=(-4, 0.6), xlim=(0, 1))
    ax.set_title(f"whole spectra, N = {int(result['units'])}\n(theory: • λ₁, dotted mean)")
    ax.legend(title="g", loc="lower left", fontsize=8, title_fontsize=8)


def _errors(ax: Axes, result: Result, tolerances: Mapping[str, float]) -> None:
    gains = result["gains"]
    exponents = result["chaos"]["exponents"]
    measured = {
        "λ₁": (
            exponents[..., 0] - result["chaos"]["largest_theory"][:, None],
            tolerances["largest"],
            MEASURED,
            -0.03,
        ),
        "mean": (
            exponents.mean(-1) - result["chaos"]["mean_theory"][:, None],
            tolerances["mean"],
            BOUND,
            0.03,
        ),
    }
    for name, (error, tolerance, color, aside) in measured.items():
        ax.axhspan(-tolerance, tolerance, color=color, alpha=0.08, lw=0)
        ax.plot(gains + aside, error, ".", color=color, ms=5, alpha=0.5)
        ax.plot(gains + aside, error.mean(1), "D", color=color, ms=5, label=name)
    ax.axhline(0, color="black", lw=0.6)
    ax.set(xlabel="gain g", ylabel=f"measured − theory  ({NATS})", ylim=(-0.1, 0.05))
    ax.set_title("against mean-field theory\n(dots: networks; bands: tolerances)")
    ax.legend(loc="upper right", ncols=2, fontsize=8)


def _trace(ax: Axes, result: Result) -> None:
    steps = result["chaos"]["trace_steps"]
    gains = result["gains"]
    for i in range(len(gains)):
        color = _shade(i, len(gains))
        ax.plot(steps, result["chaos"]["largest_trace"][i].T, color=color, lw=1)
        ax.axhline(result["chaos"]["largest_theory"][i], color=color, ls=":", lw=1)
    ax.set(xlabel="steps averaged over", ylabel=f"$\\lambda_1$  ({NATS})", xlim=(0, steps[-1]))
    ax.set_title("convergence\n(dotted: theory)")


def _circular(ax: Axes, result: Result) -> None:
    g = float(result["small_gain"])
    s = np.sort(result["circular"]["exponents"])
    ax.step(s, (np.arange(len(s)) + 1) / len(s), color=MEASURED, label="measured")
    grid = np.linspace(np.log(g) - 3, np.log(g), 200)
    ax.plot(grid, np.exp(2 * grid) / g**2, "--", color="black", lw=1, label=r"$e^{2s}/g^2$")
    ax.set(xlabel=f"s  ({NATS})", ylabel="fraction of exponents below s")
    ax.set(xlim=(np.log(g) - 3, np.log(g) + 0.2), title=f"circular law, g = {g:g}")
    ax.legend(loc="upper left", fontsize=8)


def _products(ax: Axes, result: Result) -> None:
    products = result["products"]
    i = np.arange(1, len(products["law"]) + 1)
    ax.plot(i, products["law"], color=MUTED, lw=4, alpha=0.5, label="Newman 1986")
    ax.plot(i, products["exponents"], ".", color=MEASURED, ms=5, label="measured")
    ax.set(xlabel="i", ylabel=f"$\\lambda_i$  ({NATS})")
    ax.set_title(f"products of Gaussian matrices, n = {len(i)}")
    ax.legend(loc="center left", fontsize=8)
    inset = ax.inset_axes((0.16, 0.06, 0.54, 0.26))
    inset.axhline(0, color="black", lw=0.6)
    inset.plot(i, deviations(products), ".", color=MEASURED, ms=3)
    inset.set(ylim=(-4, 4), xticks=[])
    inset.tick_params(labelsize=7)
    inset.set_title("difference / standard error", fontsize=7)


def _sizes(ax: Axes, result: Result, published: Mapping[str, float]) -> None:
    by_size = result["sizes"]
    sizes, other = by_size[""], ax.twinx()
    for axis, name, color in ((ax, "dimension", MEASURED), (other, "entropy", PRODUCT)):
        values = by_size[name]
        axis.plot(sizes, values, ".", color=color, ms=5, alpha=0.5)
        axis.plot(sizes, values.mean(1), "-", color=color)
        axis.axhline(published[name], color=color, ls=":", lw=1)
        axis.set_ylim(0, 1.5 * published[name])
        axis.tick_params(axis="y", colors=color)
    ax.set(xscale="log", xlabel="N", xticks=sizes, xticklabels=[f"{N:d}" for N in sizes])
    ax.minorticks_off()
    ax.set_ylabel("Kaplan-Yorke dimension / N", color=MEASURED)
    other.set_ylabel(f"entropy / N  ({NATS})", color=PRODUCT)
    other.spines["right"].set_visible(True)
    other.grid(False)
    ax.set_title(f"extensive chaos, g = {result['gains'][-1]:g}\n(dotted: published, N = 4096)")
