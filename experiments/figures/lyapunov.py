"""Figures of Lyapunov spectra: arrays in, Figure out. Exponents are in nats per step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common.numbers import Result
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import (
    BOUND,
    MEASURED,
    MUTED,
    PRODUCT,
    arm_line,
    arm_marker,
    shade,
)
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house

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
    with house():
        figure, axes = grid_of_panels(3, 2, height=2.2)
        spectra, errors, trace, circular, products, sizes = axes.flat
        _spectra(spectra, result)
        _errors(errors, result, tolerances)
        _trace(trace, result)
        _circular(circular, result)
        _products(products, result)
        _sizes(sizes, result, published)
        fit(figure, axes.flat, legend=False)
    return figure


def finite_size(result: Result, tolerance: float) -> Figure:
    """Draw by N how far the mean exponent is from the theory of infinitely many units.

    Args:
      result: measurements of `experiments.lyapunov_theory`.
      tolerance: shown as a band.
    """
    sizes, gains = result["finite"]["sizes"], result["gains"]
    errors = result["finite"]["means"] - result["chaos"]["mean_theory"][:, None]
    with house():
        figure, axes = grid_of_panels(1, 1, width=6.75, height=2.3)
        ax = axes[0, 0]
        ax.axhspan(-tolerance, tolerance, color=MUTED, alpha=0.15, lw=0)
        ax.axhline(0, color="black", lw=0.6)
        for i, g in enumerate(gains):
            color, place = shade(i, len(gains)), sizes * 1.05 ** (i - (len(gains) - 1) / 2)
            ax.plot(place, errors[:, i], ".", color=color, ms=4, alpha=0.5)
            look = {"color": color, "marker": arm_marker(i), "ls": arm_line(i), "lw": 1}
            ax.plot(place, errors[:, i].mean(-1), label=f"g = {g:g}", **look)
        ax.set(
            xscale="log",
            xlabel="number of units  N",
            xticks=sizes,
            xticklabels=[f"{N:d}" for N in sizes],
        )
        ax.set_ylabel(f"mean exponent − theory  ({NATS})")
        ax.minorticks_off()
        ax.set_title(
            f"mean-field theory is that of large N\n(dots: networks; band: ± {tolerance:g})"
        )
        fit(figure, [ax])
    return figure


def deviations(products: Result) -> np.ndarray:
    """Return (measured − Newman's law) / standard error of each exponent."""
    return (products["exponents"] - products["law"]) / products["standard_errors"]


def _spectra(ax: Axes, result: Result) -> None:
    gains = result["gains"]
    for i, g in enumerate(gains):
        exponents = result["chaos"]["exponents"][i].mean(0)
        place = (np.arange(len(exponents)) + 0.5) / len(exponents)
        color = shade(i, len(gains))
        ax.plot(place, exponents, color=color, ls=arm_line(i), label=f"{g:g}")
        ax.plot(0, result["chaos"]["largest_theory"][i], "o", color=color, ms=4, clip_on=False)
        ax.axhline(result["chaos"]["mean_theory"][i], color=color, ls=":", lw=1)
    ax.axhline(0, color="black", lw=0.6)
    ax.set(xlabel="i / N", ylabel=f"$\\lambda_i$  ({NATS})", ylim=(-4, 0.6), xlim=(0, 1))
    ax.set_title(f"whole spectra, N = {int(result['units'])}\n(theory: • λ₁, dotted mean)")
    ax.legend(title="g", loc="lower left")


def _errors(ax: Axes, result: Result, tolerances: Mapping[str, float]) -> None:
    gains = result["gains"]
    exponents = result["chaos"]["exponents"]
    measured = {
        "λ₁": (
            exponents[..., 0] - result["chaos"]["largest_theory"][:, None],
            tolerances["largest"],
            MEASURED,
            -0.03,
            "D",
        ),
        "mean": (
            exponents.mean(-1) - result["chaos"]["mean_theory"][:, None],
            tolerances["mean"],
            BOUND,
            0.03,
            "o",
        ),
    }
    for name, (error, tolerance, color, aside, marker) in measured.items():
        ax.axhspan(-tolerance, tolerance, color=color, alpha=0.08, lw=0)
        ax.plot(gains + aside, error, ".", color=color, ms=5, alpha=0.5)
        ax.plot(gains + aside, error.mean(1), marker, color=color, ms=5, label=name)
    ax.axhline(0, color="black", lw=0.6)
    ax.set(xlabel="gain g", ylabel=f"measured − theory  ({NATS})", ylim=(-0.1, 0.05))
    ax.set_title("against mean-field theory\n(dots: networks; bands: tolerances)")
    ax.legend(loc="upper right", ncols=2)


def _trace(ax: Axes, result: Result) -> None:
    steps = result["chaos"]["trace_steps"]
    gains = result["gains"]
    for i in range(len(gains)):
        color = shade(i, len(gains))
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
    ax.legend(loc="upper left")


def _products(ax: Axes, result: Result) -> None:
    products = result["products"]
    i = np.arange(1, len(products["law"]) + 1)
    ax.plot(i, products["law"], color=MUTED, lw=4, alpha=0.5, label="Newman 1986")
    ax.plot(i, products["exponents"], ".", color=MEASURED, ms=5, label="measured")
    ax.set(xlabel="index  i", ylabel=f"$\\lambda_i$  ({NATS})")
    ax.set_title(f"products of Gaussian matrices, n = {len(i)}")
    ax.legend(loc="upper right")
    inset = ax.inset_axes((0.19, 0.08, 0.5, 0.26))
    inset.axhline(0, color="black", lw=0.6)
    inset.plot(i, deviations(products), ".", color=MEASURED, ms=3)
    inset.set(ylim=(-4, 4), xticks=[])
    inset.set_title("difference / standard error", fontsize="small")


def _sizes(ax: Axes, result: Result, published: Mapping[str, float]) -> None:
    by_size = result["sizes"]
    sizes, other = by_size[""], ax.twinx()
    for axis, name, color, look in (
        (ax, "dimension", MEASURED, "o-"),
        (other, "entropy", PRODUCT, "s--"),
    ):
        values = by_size[name]
        axis.plot(sizes, values, ".", color=color, ms=5, alpha=0.5)
        axis.plot(sizes, values.mean(1), look, color=color, mfc="white")
        axis.axhline(published[name], color=color, ls=":", lw=1)
        axis.set_ylim(0, 1.5 * published[name])
        axis.tick_params(axis="y", colors=color)
    ax.set(
        xscale="log",
        xlabel="number of units  N",
        xticks=sizes,
        xticklabels=[f"{N:d}" for N in sizes],
    )
    ax.minorticks_off()
    ax.set_ylabel("Kaplan-Yorke dimension / N", color=MEASURED)
    other.set_ylabel(f"entropy / N  ({NATS})", color=PRODUCT)
    other.spines["right"].set_visible(True)
    other.grid(False)
    ax.set_title(f"extensive chaos, g = {result['gains'][-1]:g}\n(dotted: published, N = 4096)")
