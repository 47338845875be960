"""Figures of the studies: whole legends and titles, for one panel or many, and of odd numbers."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from rnn_jax import plotting
from rnn_jax.plotting._broken_lines import break_lines

NAMES = ("lru", "LSTM, s = (c, h)", "a_package.of_mine.with_modules:the_factory_of_a_cell_of_mine")


def drawn(figure):
    """The figure once it is laid out, and its renderer."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return figure, canvas.get_renderer()


def assert_all_is_inside(figure):
    figure, renderer = drawn(figure)
    width, height = figure.bbox.width, figure.bbox.height
    texts = [ax.title for ax in figure.axes] + [ax.yaxis.label for ax in figure.axes]
    for part in (*texts, *figure.legends):
        box = part.get_window_extent(renderer)
        assert box.x0 >= -1
        assert box.x1 <= width + 1
        assert box.y0 >= -1
        assert box.y1 <= height + 1


def assert_every_label_is_explained(figure):
    (legend,) = figure.legends
    explained = [text.get_text() for text in legend.get_texts()]
    drawn = {label for ax in figure.axes for label in ax.get_legend_handles_labels()[1]}
    assert set(explained) == drawn
    assert len(explained) == len(drawn)


def by_lag(rate, T=6, seeds=3):
    lag = np.subtract.outer(np.arange(T + 1), np.arange(T + 1))
    table = np.where(lag < 0, -np.inf, np.where(lag == 0, 0.0, rate * np.maximum(lag, 1)))
    return np.tile(table, (seeds, 1, 1))


@pytest.mark.parametrize(("columns", "rate"), [(1, -np.inf), (2, np.nan), (4, 30.0)])
def test_decay(columns, rate):
    """Panels that differ in what they have; norms that explode, are zero, or are not known."""
    names = (NAMES * 2)[-columns:]
    tables = {"measured": by_lag(rate), "product_bound": by_lag(rate)}
    bounded = {"power_bound": by_lag(0.1), "measured": by_lag(-0.1), "product_bound": by_lag(0.1)}
    panels = {
        f"{name}{i}": {"before": tables, "after": bounded if i == columns - 1 else tables}
        for i, name in enumerate(names)
    }
    figure = plotting.decay(panels)
    assert_all_is_inside(figure)
    assert_every_label_is_explained(figure)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any("lambda" in label for label in labels)
    assert ("median 0" in labels) == (rate == -np.inf)


@pytest.mark.parametrize(("columns", "table"), [(1, -np.inf), (3, -1.0), (1, np.nan)])
def test_heatmaps_count_states_and_losses_alike(columns, table):
    figure = plotting.heatmaps(
        {name: {"before": np.full((4, 5), table)} for name in NAMES[-columns:]}
    )
    assert_all_is_inside(figure)
    (mesh,) = figure.axes[0].collections
    shown = mesh.get_array().reshape(4, 5)
    # E_t is read from s_t: k <= t, t from 1 and k from 0.
    k, t = np.arange(5), np.arange(1, 5)
    if not np.isnan(table):
        np.testing.assert_array_equal(shown.mask, k > t[:, None])
    left, right, low, high = *figure.axes[0].get_xlim(), *figure.axes[0].get_ylim()
    assert (left, right, low, high) == (-0.5, 4.5, 0.5, 4.5)


@pytest.mark.parametrize(("steps", "value"), [(1, 1.0), (5, np.nan), (12, 0.0), (400, np.inf)])
def test_curves_over_any_number_of_steps(steps, value):
    """Some points of each arm, whatever the steps; numbers that a log scale does not have."""
    arms = {arm: np.full((steps, 2), value) for arm in ("clipped", "not clipped")}
    norms = plotting.gradient_norms({NAMES[-1]: arms})
    curves = plotting.learning_curves(dict.fromkeys(NAMES, arms), baseline=4.5)
    for figure in (norms, curves):
        assert_all_is_inside(figure)
        assert_every_label_is_explained(figure)
    points = len(norms.axes[0].lines[0].get_xdata())
    assert min(steps, 20) <= points <= max(min(steps, 40), steps // 10)


@pytest.mark.parametrize("count", [1, 3, 9])
@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize("baseline", [None, np.nan, 0.5])
def test_arms_of_any_number_with_what_is_held_out(count, seeds, baseline):
    """Each arm in a colour of its own, its evaluations in the same one; the clip level across."""
    arms = {f"H = {n}": np.full((50, seeds), 1.0 / (n + 1)) for n in range(count)}
    at = np.array([0, 25, 50])
    held_out = {name: (at, np.full((3, seeds), 0.3)) for name in list(arms)[:2]}
    curves = plotting.learning_curves(
        {"adding": arms, NAMES[-1]: arms}, held_out={"adding": held_out}, baseline=baseline
    )
    norms = plotting.gradient_norms({"adding": arms}, clip_norm=0.7)
    for figure in (curves, norms):
        assert_all_is_inside(figure)
        assert_every_label_is_explained(figure)
    lines = {line.get_label(): line for line in curves.axes[0].lines}
    trained = [lines[arm] for arm in arms]
    known = baseline is not None and np.isfinite(baseline)
    assert len(lines) == count + len(held_out) + known
    assert len({str(line.get_color()) for line in trained}) == count
    for arm in held_out:
        one, other = (line for label, line in lines.items() if label.startswith(arm))
        assert one.get_color() == other.get_color()
        np.testing.assert_array_equal(other.get_xdata(), at)
    (level,) = [line for line in norms.axes[0].lines if line.get_label() == "clipped to 0.7"]
    np.testing.assert_array_equal(level.get_ydata(), 0.7)


def test_a_seed_that_diverges_does_not_hide_the_others():
    curves = np.tile(np.linspace(1, 0.5, 40)[:, None], (1, 5))
    curves[20:, 0] = np.nan
    figure = plotting.learning_curves({"adding": {"lstm": curves}})
    (line,) = figure.axes[0].lines
    assert np.isfinite(line.get_ydata()).all()


def test_lines_are_broken_where_they_may_be():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    text = figure.subplots().title
    for whole in ("short", r"a $\sigma_w$ that is very long indeed, and goes on", "x" * 60, ""):
        text.set_text(whole)
        break_lines(text, 120)
        broken = text.get_text()
        assert broken.replace("\n", "").replace(" ", "") == whole.replace(" ", "")
        renderer = FigureCanvasAgg(figure).get_renderer()
        assert text.get_window_extent(renderer).width <= 125
        assert all(line.count("$") % 2 == 0 for line in broken.split("\n"))
