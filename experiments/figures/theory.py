"""Figures of the experiments that hold gradients against theory: arrays in, Figure out.

Norms come as natural logarithms and are drawn on a log scale in powers of ten.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import LogLocator

from rnn_jax.plotting._decades import plain_numbers, powers_of_ten
from rnn_jax.plotting._fit import fit, legend_below
from rnn_jax.plotting._palette import (
    BOUND,
    MEASURED,
    MUTED,
    PALETTE,
    PRODUCT,
    arm_line,
    arm_marker,
    shade,
)
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house

LAG = "lag  t − k  (steps)"
MARKS = {"clipped": "o-", "not clipped": "s--"}
NORM = r"$\|\partial h_t / \partial h_k\|_2$"


def phase_diagram(
    gains: np.ndarray,
    strengths: np.ndarray,
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    line: np.ndarray,
) -> Figure:
    """Draw exponents over gain and drive, with the line between order and chaos.

    A dotted line is where a measured exponent is zero.

    Args:
      gains: `[G]`.
      strengths: `[D]`, standard deviations of the drive.
      panels: drive -> title -> nats per step `[D, G]`.
      line: `[D]`, the gain at which theory has order end.
    """
    tables = [table for by_title in panels.values() for table in by_title.values()]
    # What lies as far below zero as nothing lies above it has one colour.
    top = max(float(np.nanmax(table)) for table in tables)
    with house({"axes.grid": False}):
        columns = len(tables) // len(panels)
        figure, axes = grid_of_panels(len(panels), columns, height=1.9, sharey="row")
        symbols = {"input": r"input strength  $\sigma_u$", "bias": r"bias  $\sigma_b$"}
        for row, (drive, by_title) in zip(axes, panels.items(), strict=True):
            for ax, (title, table) in zip(row, by_title.items(), strict=True):
                image = ax.pcolormesh(gains, strengths, table, vmin=-top, vmax=top, rasterized=True)
                edge = [Stroke(linewidth=2.6, foreground="black"), Normal()]
                label = "theory, where order ends"
                ax.plot(line, strengths, color="white", lw=1.2, path_effects=edge, label=label)
                if np.nanmin(table) < 0 < np.nanmax(table):
                    ax.contour(
                        gains, strengths, table, [0], colors="black", linestyles=":", linewidths=1
                    )
                ax.set(xlim=(gains[0], gains[-1]), ylim=(strengths[0], strengths[-1]))
                ax.set(title=title, xlabel=r"gain  $\sigma_w$", ylabel=symbols.get(drive, drive))
        for ax in axes[:, -1]:
            ax.text(0.06, 0.8, "order", color="white", transform=ax.transAxes)
            ax.text(0.7, 0.25, "chaos", transform=ax.transAxes)
        bar = figure.colorbar(image, ax=axes, shrink=0.7, extend="min")
        bar.set_label("exponent  (nats per step)")
        axes[0, 0].plot([], [], ":", color="black", lw=1, label="measured exponent is 0")
        fit(figure, axes.flat)
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
    with house():
        figure, axes = grid_of_panels(1, 2, height=2.4)
        left, right = axes[0]
        for i, factor in enumerate(factors):
            look = {"color": shade(i, len(factors)), "ls": arm_line(i)}
            left.plot(gradient[:, i], label=rf"$\lambda$ = {factor:g}", **look)
        left.set(xlabel=LAG, ylabel=r"$\partial h_t / \partial h_k = \lambda^{t-k}$")
        left.set(title="no gradient explodes", ylim=(0, 1.05))
        for number, (name, (measured, error, law)) in enumerate(powers.items()):
            color, ls = PALETTE[number], arm_line(number)
            right.plot(memories, law, color=color, ls=ls, label=labels[name])
            points = {"fmt": arm_marker(number), "ms": 4, "capsize": 2, "mfc": "white"}
            right.errorbar(memories, measured, 4 * error, color=color, **points)
        right.set(xscale="log", yscale="log", xlabel="memory  1 / (1 − λ)  (steps)")
        right.set_ylabel("mean square")
        plain_numbers(right.xaxis)
        right.set(title="and yet sensitivity does\n(points: simulated, ± 4 standard errors)")
        fit(figure, axes.flat)
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
    with house():
        figure, axes = grid_of_panels(1, 3, height=2.3)
        first, second, third = axes[0]
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
            look = {"color": shade(i, len(linear["couplings"])), "ls": arm_line(i)}
            second.plot(norms / ten, label=f"coupling {coupling:g}", **look)
        second.set_title(f"linear, ρ(W) = {float(linear['radius']):g}:\nvanishes, in the end")
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
            ax.set(xlabel=LAG, ylabel=NORM)
            powers_of_ten(ax.yaxis)
        fit(figure, axes.flat)
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
    with house({"axes.grid": False}):
        figure, axes = grid_of_panels(2, 2, height=2.5)
        (left, right), (across, below) = axes
        image = left.pcolormesh(w, b, E, cmap="gray_r", rasterized=True)
        figure.colorbar(image, ax=left, label="error  E")
        colors = dict(zip(paths, (MEASURED, BOUND), strict=True))
        for arm, (path, _) in reversed(list(paths.items())):
            left.plot(*path.T, MARKS[arm], color=colors[arm], lw=0.8, ms=3, label=arm)
        left.plot(*next(iter(paths.values()))[0][0], "o", color="white", mec="black", ms=5)
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
        right.legend(loc="upper right", labelcolor="white")
        right.set_title("the wall")
        for ax in (left, right):
            ax.set(xlabel="w", ylabel="b", xlim=(w[0], w[-1]), ylim=(b[0], b[-1]))

        across.axvspan(*cut["folds"], color=MUTED, alpha=0.25, lw=0, label="two attractors")
        across.plot(cut["b"], cut["gradient_norm"], "--", color=PALETTE[3], lw=1.2, label=norm)
        across.plot(cut["b"], cut["E"], color=PRODUCT, label="E")
        across.set(xlabel="b", yscale="log", xlim=(b[0], b[-1]), ylim=(1e-3, 1e4))
        across.set_title(f"cut at w = {float(cut['w']):g}")
        across.set_ylabel("E, and norm of its gradient")

        for arm, (_, values) in paths.items():
            every = {"markevery": max(1, len(values) // 12)}
            look = {"color": colors[arm], "lw": 1, "ms": 3, **every}
            below.plot(np.maximum(values, 1e-16), MARKS[arm], label=arm, **look)
        below.set(xlabel="descent step", ylabel="error  E", yscale="log")
        below.set_title("the error on the way")
        fit(figure, axes.flat, legend=False)
        legend_below(figure, (left, across))
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
    with house():
        figure, axes = grid_of_panels(1, 3, height=2.5)
        left, middle, right = axes[0]
        middle.sharey(left)
        ten = np.log(10)
        lag = np.arange(measured["total"].shape[-1])
        for i, bias in enumerate(biases):
            look = {"color": shade(i, len(biases)), "label": f"bias {bias:g}"}
            look |= {"marker": arm_marker(i), "ms": 3, "markevery": (i, max(1, len(lag) // 6))}
            left.plot(lag, measured["direct"][i].mean(0) / ten, **look)
            left.plot(lag, random[i] * lag / ten, ":", color="black", lw=1, zorder=3)
            middle.plot(lag, np.median(measured["total"][i], 0) / ten, **look)
            middle.plot(lag, constant[i] * lag / ten, "--", color=look["color"], lw=1)
        left.set_title(f"{product}, typical unit")
        middle.set_title(f"all of {jacobian}")
        left.set(ylim=(-31, 2))
        for ax in (left, middle):
            ax.set(xlabel=LAG, ylabel="part that is left")
            powers_of_ten(ax.yaxis)
        right.plot(biases, -1 / constant, "--", color=MUTED, label="theory, gates that stand still")
        right.plot(biases, -1 / random, ":", color="black", lw=1.8, label="theory, random gates")
        for marker, name, color, label in (
            ("o", "still", MUTED, f"{product}, no input"),
            ("s", "direct", PRODUCT, f"{product}, typical unit"),
            ("D", "total", MEASURED, f"{jacobian}, r.m.s."),
        ):
            _points(right, biases, horizons[name], lag[-1], marker, color, label)
        right.set(xlabel="forget bias", ylabel="steps until 1/e is left", yscale="log")
        right.set_ylim(0.8, 60 * lag[-1])
        right.yaxis.set_major_locator(LogLocator())
        right.plot([], [], "^", color="black", label=f"beyond {lag[-1]} steps")
        right.set_title("horizon")
        fit(figure, axes.flat)
    return figure


def _points(
    ax: Axes, x: np.ndarray, y: np.ndarray, last: float, marker: str, color: str, label: str
) -> None:
    """Draw points, and arrows where y is beyond the last."""
    shown = np.isfinite(y)
    ax.plot(x[shown], y[shown], marker, color=color, ms=4, mfc="white", label=label)
    ax.plot(x[~shown], np.full(np.sum(~shown), last), "^", color=color, ms=6)
