"""Panels: what they refuse, what is shown of them, and what is found in a result."""

import itertools

import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE

from rnn_jax.reporting import Axis, Heatmap, Line, Lines, Pictures, Slider, Table
from rnn_jax.reporting.curves import MAX_POINTS, MAX_STEPS, draw_lines, draw_slider
from rnn_jax.reporting.drawing import COLORS, MUTED
from rnn_jax.reporting.heatmaps import MAX_SIDE, SPAN, draw_heatmap
from rnn_jax.reporting.norms_by_lag import by_lag, decay, loss_map, percentiles, state_map
from rnn_jax.reporting.recognized import panels_of, table_of_arrays
from rnn_jax.reporting.shown import decades, every, left_out, said_of_gaps
from rnn_jax.reporting.training_panels import Curve, curves_panel

T_AXIS, K_AXIS = Axis("t", "state t"), Axis("k", "state k")
FORM = r"^{}.*: got .*; expected .+\. [A-Z]"
LN10 = np.log(10)


def norms(T, rate=-1.0, networks=1):
    lag = np.subtract.outer(np.arange(T + 1), np.arange(T + 1))
    return np.where(lag >= 0, rate * lag, -np.inf) * np.ones((networks, 1, 1))


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Heatmap(3, "v", {}, T_AXIS, K_AXIS), "title"),
        (lambda: Heatmap("a", "v", [np.eye(2)], T_AXIS, K_AXIS), "tables"),
        (lambda: Heatmap("a", "v", {"b": np.ones(2)}, T_AXIS, K_AXIS), r"tables\['b'\]"),
        (lambda: Heatmap("a", "v", {"b": np.eye(2) * 1j}, T_AXIS, K_AXIS), r"tables\['b'\]"),
        (lambda: Heatmap("a", "v", {"b": [["x"]]}, T_AXIS, K_AXIS), r"tables\['b'\]"),
        (lambda: Heatmap("a", "v", {"b": np.eye(2)}, T_AXIS, Axis("k", "k", [1])), "columns"),
        (lambda: Heatmap("a", "v", {"b": np.eye(2)}, T_AXIS, K_AXIS, scale="log2"), "scale"),
        (lambda: Lines("a", "x", "y", {"b": [np.ones(3)]}), "views"),
        (lambda: Lines("a", "x", "y", {"b": [Line("c", np.ones(3), np.ones(2))]}), "x"),
        (
            lambda: Lines("a", "x", "y", {"b": [Line("c", np.ones(3), style="wavy")]}),
            r"views\['b'\].style",
        ),
        (lambda: Slider("a", T_AXIS, "y", np.arange(3), np.ones((2, 4))), "values"),
        (lambda: Slider("a", Axis("t", "t", [1]), "y", np.arange(2), np.ones((2, 4))), "values"),
        (lambda: Table("a", ["b", "c"], [[1]]), "rows"),
        (lambda: Pictures("a", {"b": b"<svg>"}), r"png\['b'\]"),
    ],
)
def test_what_does_not_fit_is_refused(make, argument):
    with pytest.raises(ValueError, match=FORM.format(argument)):
        make()


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 250, 399, 400])
def test_every_nth_and_the_last_are_shown_and_it_is_said(count):
    at = every(count, 100)
    assert len(at) <= 101
    assert len(set(np.diff(at)[:-1])) <= 1
    if count:
        assert (at[0], at[-1]) == (0, count - 1)
    assert (left_out(count, 100, "steps") == "") == (len(at) == count)
    assert left_out(399, 100, "steps") == "Every 4th of 399 steps is shown, and the last"
    assert left_out(2300, 101, "steps").startswith("Every 23rd of 2,300 steps")
    assert left_out(1100, 100, "steps").startswith("Every 11th of")


def test_large_maps_and_long_lines_are_thinned_out():
    T = 5 * MAX_SIDE
    large = draw_heatmap(state_map({"a": norms(T)}))
    ((_, (trace,)),) = large.views
    assert trace["z"].shape == (len(trace["y"]), len(trace["x"]))
    assert len(trace["x"]) <= MAX_SIDE + 1
    np.testing.assert_array_equal(trace["y"][[0, 1, -1]], [0, 6, T])
    np.testing.assert_allclose(trace["z"][-1] * LN10, trace["x"] - T, rtol=1e-6, atol=1e-6)
    assert any("Every 6th of 1,001 values of k" in note for note in large.dropped)
    # The more tables, the fewer entries of each.
    many = draw_heatmap(state_map({str(n): norms(200) for n in range(40)}))
    assert sum(trace["z"].size for _, (trace,) in many.views) < 350_000

    line = draw_lines(Lines("a", "x", "y", {"": [Line("b", np.arange(5 * MAX_POINTS))]}))
    ((_, (trace,)),) = line.views
    assert trace["y"][-1] == 5 * MAX_POINTS - 1
    assert "Every 5th" in line.dropped[0]
    slider = Slider("a", T_AXIS, "y", np.arange(400), np.arange(800.0).reshape(400, 2))
    figure = draw_slider(slider)
    assert len(figure.views) == MAX_STEPS + 1
    assert [label for label, _ in figure.views[-2:]] == ["396", "399"]
    assert "Every 4th of 400 steps" in figure.dropped[0]


def test_norms_that_no_float_holds_are_shown():
    """Lag 10,000 at one nat a step; colours end 12 decades below the largest."""
    figure = draw_heatmap(state_map({"a": norms(60, rate=-1000.0)}))
    ((_, (trace,)),) = figure.views
    np.testing.assert_allclose(trace["z"][60, 0], -60_000 / LN10, rtol=1e-6)
    assert trace["zmax"] - trace["zmin"] == SPAN
    assert any("powers of ten" in note for note in figure.notes)
    assert trace["customdata"][60, 0] == -60_000


def test_gaps_are_gaps_and_counted():
    table = norms(3)[0]
    table[2, 0], table[3, 0], table[3, 1] = -np.inf, np.nan, np.inf
    figure = draw_heatmap(state_map({"a": table[None]}))
    ((_, (trace,)),) = figure.views
    assert np.isnan(trace["z"]).sum() == 3 + 6  # and k > t, which is not said to be a gap
    (said,) = [note for note in figure.notes if note.startswith("Gaps")]
    assert said == "Gaps: of 10 numbers 1 is 0 (its logarithm is −∞), 1 is NaN, 1 is infinite."
    assert said_of_gaps([np.array([0.0, 1])], "log") == "Gaps: of 2 numbers 1 is 0 or less."
    assert said_of_gaps([np.array([0.0, 1])], "linear") == ""
    np.testing.assert_array_equal(decades(np.array([0.0, 1, -1]), "log"), [np.nan, 1, np.nan])


@pytest.mark.parametrize("hole", [-np.inf, np.nan, np.inf])
def test_a_band_ends_at_a_gap_and_goes_on_behind_it(hole):
    low = np.array([0.0, 1, hole, 3, 4])
    line = Line("a", np.arange(5.0), band=(low, np.full(5, 9.0)))
    ((_, (band, _)),) = draw_lines(Lines("a", "x", "y", {"": [line]}, scale="ln")).views
    assert np.isnan(band["x"]).sum() == 2
    np.testing.assert_array_equal(band["x"][:4], [0, 1, 1, 0])
    nothing = Line("a", np.full(5, hole), band=(np.full(5, np.nan),) * 2)
    ((_, (band, trace)),) = draw_lines(Lines("a", "x", "y", {"": [nothing]}, scale="ln")).views
    assert band["x"].size == 0
    assert np.isnan(trace["y"]).all()


@pytest.mark.parametrize("T", [1, 2, 3])
@pytest.mark.parametrize("networks", [0, 1, 3])
def test_small_tables_and_few_networks(T, networks):
    tables = {"": norms(T, networks=networks)}
    for panel in (state_map(tables), loss_map({"": norms(T, networks=networks)[:, 1:]})):
        ((_, (trace,)),) = draw_heatmap(panel).views
        assert trace["z"].shape in ((T + 1, T + 1), (T, T + 1))
        assert np.isfinite(trace["z"]).any() == (networks > 0)
    panel = decay({"": {"measured": tables[""], "product": tables[""]}})
    ((_, traces),) = draw_lines(panel).views
    assert len(traces[1]["x"]) == T + 1
    assert np.isfinite(panel.limits).all()


def test_percentiles_are_entries():
    values = np.array([[-np.inf, 1.0], [2.0, 3.0], [4.0, np.nan], [5.0, 6.0]])
    assert set(percentiles(values)[:1]) <= set(values[:, 0])
    assert np.isnan(percentiles(np.zeros((0, 3)), (10, 50))).all()
    np.testing.assert_array_equal(by_lag(norms(3, networks=2))[1], [0, -1, -2, -3])


def test_what_is_recognized_in_a_result():
    steps, seeds = 30, 4
    loss = np.linspace(3, 1, steps)[:, None] + np.zeros(seeds)
    result = {
        "LSTM": {
            "after training": {"measured": norms(4, networks=seeds), "product_bound": norms(4, 1)},
            "before training": {"measured": norms(4, networks=seeds)},
            "clipped": {"loss": loss.T, "bits": np.ones(seeds)},  # networks first
        },
        "spectrum": {"exponents": np.linspace(1, -1, 5), "standard_errors": np.full(5, 0.1)},
        "unknown": np.ones((2, 3, 4)),
    }
    maps, by_lags, curves, spectrum = panels_of(result)
    assert list(maps.tables) == ["LSTM, before training", "LSTM, after training"]
    assert [line.label for line in by_lags.views["LSTM, before training"]] == [
        "measured, median and 10–90 %"
    ]
    # A bound of another shape is none of these norms'.
    assert len(by_lags.views["LSTM, after training"]) == 1
    ((line,),) = curves.views.values()
    np.testing.assert_array_equal(line.y, loss[:, 0])
    ((line,),) = spectrum.views.values()
    assert line.style == "points"
    np.testing.assert_array_equal(line.errors, 0.1)
    names = [row[0] for row in table_of_arrays(result, "numbers.npz").rows]
    assert {"unknown", "LSTM/clipped/loss", "spectrum/exponents"} <= set(names)
    assert len(names) == 8


def test_curves_stand_at_their_steps():
    held_out = {"step": np.array([0, 10, 20]), "loss": np.ones((3, 2)), "solved": np.ones((3, 2))}
    arm = {
        "step": np.array([0, 10, 20]),
        "held_out": held_out,
        "training": {"loss": np.ones((2, 2))},
    }
    del held_out["step"]
    arms = {"arms": {"adding": {name: {"T = 3": arm} for name in ("a", "b")}}}
    curves, solved = panels_of(arms)
    assert list(curves.views) == ["adding, T = 3, held out", "adding, T = 3, training"]
    a, b = curves.views["adding, T = 3, held out"]
    assert (a.label, b.label) == ("a", "b")
    np.testing.assert_array_equal(a.x, [0, 10, 20])
    # Means between evaluations stand at the later ones.
    np.testing.assert_array_equal(curves.views["adding, T = 3, training"][0].x, [10, 20])
    assert list(solved.views) == ["adding, T = 3"] or len(solved.views) == 1
    # As many networks as evaluations: the steps beside them are no networks.
    square = {
        "metrics": {"held_out": {"step": np.arange(2) * 5, "loss": np.array([[1.0, 2], [3, 4]])}}
    }
    ((line,),) = panels_of(square)[0].views.values()
    np.testing.assert_array_equal(line.y, percentiles(np.array([[1.0, 2], [3, 4]]), axis=1))


@pytest.mark.parametrize("values", [np.zeros((0, 2)), np.full((5, 1), np.nan), np.zeros((5, 2))])
def test_losses_of_nothing_of_nan_and_of_zeros(values):
    panel = curves_panel("a", "loss", [Curve("", "a", values)], scale="loss", across={"b": np.nan})
    assert panel.scale == "linear"
    ((_, traces),) = draw_lines(panel).views
    assert len(traces) == values.shape[1]


def test_any_number_of_arms():
    arms = [Curve("", f"arm {n}", np.full((4, 3), float(n))) for n in range(30)]
    ((_, traces),) = draw_lines(curves_panel("a", "loss", arms)).views
    looks = {(trace["line"]["color"], trace["line"]["dash"]) for trace in traces}
    assert len(traces) == len(looks) == 30


@pytest.mark.parametrize("kind", ["none", "deuteranomaly", "protanomaly", "tritanomaly"])
def test_colours_are_told_apart_by_all(kind):
    """By their distance in a space of perceived colour, as seen with two primaries."""
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLORS])
    if kind != "none":
        space = {"name": "sRGB1+CVD", "cvd_type": kind, "severity": 100}
        rgb = np.clip(cspace_convert(rgb, space, "sRGB1"), 0, 1)
    for a, b in itertools.combinations(range(3), 2):  # measured and its two bounds
        assert deltaE(rgb[a], rgb[b]) > 12
    assert min(deltaE(a, b) for a, b in itertools.combinations(rgb, 2)) > 8


def test_colours_are_seen_on_white():
    """A contrast of 3 to 1, which WCAG asks of graphics."""
    for color in (*COLORS, MUTED):
        rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 3
