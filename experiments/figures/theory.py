"""Figures of the experiments that hold gradients against theory: arrays in, Figure out.

Norms come as natural logarithms and are drawn on a log scale in powers of ten.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from rnn_jax.plotting.style import BOUND, MEASURED, MUTED, PRODUCT, STYLE, powers_of_ten

LAG = "lag  t − k  (steps)"
NORM = r"$\|\partial h_t / \partial h_k\|_2$"


def phase_diagram(
    gains: np.ndarray,
    strengths: np.ndarray,
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    line: np.ndarray,
) -> Figure:
    """Draw exponents over gain and drive, with the line between order and chaos.

    Args:
      gains: `[G]`.
      strengths: `[D]`, standard deviations of the drive.
      panels: drive -> title -> nats per step `[D, G]`.
      line: `[D]`, the gain at which theory has order end.
    """
    tables = [table for by_title in panels.values() for table in by_title.values()]
    # Zero is white, and what lies far below it has one colour.
    top = max(float(np.nanmax(table)) for table in tables)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(8.6, 2.7 * len(panels) + 0.4), layout="constrained")
        axes = figure.subplots(
            len(panels), len(tables) // len(panels), sharex=True, sharey=True, squeeze=False
        )
        symbols = {"input": r"input strength  $\sigma_u$", "bias": r"bias  $\sigma_b$"}
        for row, (drive, by_title) in zip(axes, panels.items(), strict=True):
            for ax, (title, table) in zip(row, by_title.items(), strict=True):
                image = ax.pcolormesh(
                    gains, strengths, table, cmap="RdBu_r", vmin=-top, vmax=top, rasterized=True
                )
                ax.plot(line, strengths, color="black", lw=1.3)
                ax.set(xlim=(gains[0], gains[-1]), ylim=(strengths[0], strengths[-1]))
                if row[0] is axes[0, 0]:
                    ax.set_title(title)
            row[0].set_ylabel(symbols.get(drive, drive))
        for ax in axes[-1]:
            ax.set_xlabel(r"gain  $\sigma_w$")
        for ax in axes[:, -1]:
            ax.text(0.06, 0.8, "order", color="white", transform=ax.transAxes)
            ax.text(0.7, 0.25, "chaos", transform=ax.transAxes)
        bar = figure.colorbar(image, ax=axes, shrink=0.7, extend="min")
        bar.set_label("nats per step")
    return figure


def memory(
    factors: np.ndarray,
    gradient: np.ndarray,
    powers: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Figure:
    """Draw what passes back through a linear unit, and how sensitive the unit is.

    Args:
      factors: λ, `[n]`.
      gradient: ∂h_t/∂h_k by lag, `[lags + 1, n]`.
      powers: state, sensitivity, normalized -> measured, standard error and law, each `[n]`.
    """
    memories = 1 / (1 - factors)
    labels = {
        "state": r"$E[h^2] = 1/(1-\lambda^2)$",
        "sensitivity": r"$E[(\partial h/\partial\lambda)^2] = (1+\lambda^2)/(1-\lambda^2)^3$",
        "normalized": r"$E[(\gamma\,\partial h/\partial\nu)^2]$, normalized",
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for i, factor in enumerate(factors):
            shade = matplotlib.colormaps["Blues"](0.3 + 0.7 * i / max(len(factors) - 1, 1))
            left.plot(gradient[:, i], color=shade, label=f"{factor:g}")
        left.set(xlabel=LAG, ylabel=r"$\partial h_t / \partial h_k = \lambda^{t-k}$")
        left.set(title="no gradient explodes", ylim=(0, 1.05))
        left.legend(title="λ", fontsize=7, title_fontsize=8, ncols=2)
        for color, (name, (measured, error, law)) in zip(
            (MEASURED, BOUND, PRODUCT), powers.items(), strict=True
        ):
            right.plot(memories, law, color=color, label=labels[name])
            right.errorbar(memories, measured, 4 * error, fmt="o", ms=4, color=color, capsize=2)
        right.set(xscale="log", yscale="log", xlabel="memory  1 / (1 − λ)  (steps)")
        right.set(title="and yet sensitivity does\n(points: simulated, ± 4 standard errors)")
        right.legend(fontsize=8)
    return figure


def eigenvalue_myth(
    nilpotent: Mapping[str, np.ndarray],
    linear: Mapping[str, np.ndarray],
    saturated: Mapping[str, np.ndarray],
) -> Figure:
    """Draw three networks whose gradients do what their eigenvalues do not say.

    Args:
      nilpotent: `radius`, and by lag `measured [L+1]`, `law [L]` from lag 1 on, `bound [L+1]`.
      linear: `radius`, `couplings [n]`, `measured [n, L+1]`.
      saturated: `radius [n]`, `measured [n, L+1]`, `exponent`.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.3), layout="constrained")
        first, second, third = figure.subplots(1, 3)
        ten = np.log(10)
        first.plot(
            nilpotent["bound"] / ten, "--", color=BOUND, label=r"$(\lambda_W\lambda_\varphi)^{t-k}$"
        )
        law = nilpotent["law"] / ten
        label = r"$2^{t-k-1} \|J\|$"
        first.plot(np.arange(len(law)) + 1, law, color=MUTED, lw=4, alpha=0.5, label=label)
        first.plot(nilpotent["measured"] / ten, ".", color=MEASURED, ms=4, label="measured")
        first.set_title(f"tanh, ρ(W) = {float(nilpotent['radius']):g}:\nexplodes")
        # The bound may leave the frame.
        first.set_ylim(-1, nilpotent["measured"][-1] / ten * 1.6)
        for i, (coupling, norms) in enumerate(
            zip(linear["couplings"], linear["measured"], strict=True)
        ):
            shade = matplotlib.colormaps["Blues"](
                0.35 + 0.65 * i / max(len(linear["couplings"]) - 1, 1)
            )
            second.plot(norms / ten, color=shade, label=f"{coupling:g}")
        second.set_title(f"linear, ρ(W) = {float(linear['radius']):g}:\nvanishes, in the end")
        second.legend(title="coupling", fontsize=7, title_fontsize=8)
        low, middle, high = np.percentile(saturated["measured"], (10, 50, 90), axis=0) / ten
        lag = np.arange(len(middle))
        third.fill_between(lag, low, high, color=MEASURED, alpha=0.25, lw=0, label="10–90 %")
        third.plot(lag, middle, color=MEASURED, label="measured, median")
        theory = lag * saturated["exponent"] / ten
        third.plot(lag, theory, ":", color=PRODUCT, lw=1.8, label=r"$\chi^{(t-k)/2}$, theory")
        radius = float(np.median(saturated["radius"]))
        third.plot(lag, lag * np.log(radius) / ten, "--", color=MUTED, label=r"$\rho(W)^{t-k}$")
        third.set_title(f"tanh, strong input, ρ(W) ≈ {radius:.2f}:\nvanishes")
        for ax in (first, second, third):
            ax.set_xlabel(LAG)
            powers_of_ten(ax.yaxis)
        for ax in (first, third):
            ax.legend(fontsize=8)
        first.set_ylabel(NORM)
    return figure


def error_surface(
    w: np.ndarray,
    b: np.ndarray,
    E: np.ndarray,
    gradient_norm: np.ndarray,
    *,
    folds: tuple[np.ndarray, np.ndarray],
    wall: tuple[np.ndarray, np.ndarray],
    cut: Mapping[str, np.ndarray],
    paths: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Draw a landscape, the size of its gradient, a cut through both, and descents.

    Args:
      w, b: `[n]` and `[m]`.
      E, gradient_norm: `[m, n]`.
      folds: w `[k]` and b `[2, k]`, between which the network has two attractors.
      wall: w and b `[k]`, where the start is the fixed point that repels.
      cut: `w`, `b [l]`, `E [l]`, `gradient_norm [l]`, `folds [2]` and `wall`.
      paths: arm ("clipped", "not clipped") -> (w, b) `[steps, 2]` and E `[steps]`.
    """
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(8.6, 6.4), layout="constrained")
        (left, right), (across, below) = figure.subplots(2, 2)
        image = left.pcolormesh(w, b, E, cmap="Greys", rasterized=True)
        figure.colorbar(image, ax=left, label="E")
        colors = dict(zip(paths, (MEASURED, BOUND), strict=True))
        for arm, (path, _) in reversed(list(paths.items())):
            left.plot(*path.T, ".-", color=colors[arm], lw=0.8, ms=3, label=arm)
        left.plot(*next(iter(paths.values()))[0][0], "o", color="white", mec="black", ms=5)
        left.legend(loc="upper right", fontsize=8)
        left.set_title("gradient descent, from the circle")

        logs = np.log10(np.maximum(gradient_norm, 1e-6))
        image = right.pcolormesh(w, b, logs, cmap="magma", rasterized=True)
        norm = r"$\|\partial E/\partial(w, b)\|$"
        bar = figure.colorbar(image, ax=right, label=norm)
        powers_of_ten(bar.ax.yaxis)
        for edge, label in zip(folds[1], ("two attractors between", None), strict=True):
            right.plot(folds[0], edge, "--", color="white", lw=0.9, label=label)
        right.plot(
            *wall, ":", color="#7dd3fc", lw=1.2, label="$x_0$ is the fixed point that repels"
        )
        right.legend(loc="upper right", fontsize=8, labelcolor="white")
        right.set_title("the wall")
        for ax in (left, right):
            ax.set(xlabel="w", ylabel="b", xlim=(w[0], w[-1]), ylim=(b[0], b[-1]))

        across.axvspan(*cut["folds"], color=MUTED, alpha=0.25, lw=0, label="two attractors")
        across.plot(cut["b"], cut["gradient_norm"], color=BOUND, lw=1.2, label=norm)
        across.plot(cut["b"], cut["E"], color=MEASURED, label="E")
        across.set(xlabel="b", yscale="log", xlim=(b[0], b[-1]), ylim=(1e-3, 1e4))
        across.set_title(f"cut at w = {float(cut['w']):g}")
        across.legend(fontsize=8)

        for arm, (_, values) in paths.items():
            below.plot(np.maximum(values, 1e-16), color=colors[arm], lw=1, label=arm)
        below.set(xlabel="descent step", ylabel="E", yscale="log", title="the error on the way")
        below.legend(fontsize=8)
    return figure


def forget_gate(
    biases: np.ndarray,
    measured: Mapping[str, np.ndarray],
    horizons: Mapping[str, np.ndarray],
    *,
    constant: np.ndarray,
    random: np.ndarray,
) -> Figure:
    """Draw what is left of ∂c_t/∂c_k by lag, and the horizon, by the bias of the forget gate.

    Args:
      biases: `[n]`.
      measured: direct, total -> natural logs `[n, seeds, lags + 1]`.
      horizons: still, direct, total -> steps `[n]`, inf where none was reached.
      constant, random: nats per step `[n]`, of gates that stand still and of random ones.
    """
    product, jacobian = r"$\prod f_i$", r"$\partial c_t/\partial c_k$"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        middle.sharey(left)
        ten = np.log(10)
        lag = np.arange(measured["total"].shape[-1])
        for i, bias in enumerate(biases):
            shade = matplotlib.colormaps["viridis"](0.9 * i / max(len(biases) - 1, 1))
            left.plot(lag, measured["direct"][i].mean(0) / ten, color=shade, label=f"{bias:g}")
            left.plot(lag, random[i] * lag / ten, ":", color="black", lw=1)
            middle.plot(lag, np.median(measured["total"][i], 0) / ten, color=shade)
            middle.plot(lag, constant[i] * lag / ten, "--", color=shade, lw=1)
        left.set_title(f"{product} of a typical unit\n(dotted: theory for random gates)")
        middle.set_title(f"all of {jacobian}\n(dashed: gates that stand still)")
        figure.legend(title="forget bias", loc="outside left center", fontsize=8, title_fontsize=8)
        left.set(ylabel="left of the gradient", ylim=(-31, 2))
        for ax in (left, middle):
            ax.set_xlabel(LAG)
        powers_of_ten(left.yaxis)
        right.plot(biases, -1 / constant, "--", color=MUTED, label="theory, gates that stand still")
        right.plot(biases, -1 / random, ":", color="black", lw=1.8, label="theory, random gates")
        _points(right, biases, horizons["still"], lag[-1], MUTED, f"{product}, no input")
        _points(right, biases, horizons["direct"], lag[-1], PRODUCT, f"{product}, typical unit")
        _points(right, biases, horizons["total"], lag[-1], MEASURED, f"{jacobian}, r.m.s.")
        right.set(xlabel="forget bias", ylabel="steps until 1/e is left", yscale="log")
        right.set_ylim(0.8, 60 * lag[-1])
        right.yaxis.set_major_locator(LogLocator())
        right.set_title(f"horizon\n(arrows: beyond {lag[-1]})")
        right.legend(fontsize=8, loc="upper left")
    return figure


def _points(ax: Axes, x: np.ndarray, y: np.ndarray, last: float, color: str, label: str) -> None:
    """Draw points, and arrows where y is beyond the last."""
    shown = np.isfinite(y)
    ax.plot(x[shown], y[shown], "o", color=color, ms=5, label=label)
    ax.plot(x[~shown], np.full(np.sum(~shown), last), "^", color=color, ms=6)
