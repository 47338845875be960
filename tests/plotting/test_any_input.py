"""Every public figure, of tame input and of what goes wrong: nothing cut, nothing too small."""

import types

import numpy as np
import pytest

from rnn_jax import plotting
from tests.plotting.page import assert_fits_a_page, panels_of

LONG = "a_package.of_mine.with_modules:the_factory_of_a_cell_of_mine, s = (c, h)"
RNG = np.random.default_rng(0)


def tables(T=12, seeds=5, rate=-0.3):
    """ln norms `[seeds, T+1, T+1]` that change at a rate."""
    lag = np.subtract.outer(np.arange(T + 1), np.arange(T + 1))
    noise = 0.2 * RNG.normal(size=(seeds, T + 1, T + 1))
    decaying = np.where(lag == 0, 0.0, rate * np.maximum(lag, 0) + noise)
    return np.where(lag < 0, -np.inf, decaying)


def with_nan_in_one_seed(found):
    found = found.copy()
    found[1, 5:] = np.nan
    return found


def zero(found):
    return np.where(np.tri(*found.shape[-2:], -1) > 0, -np.inf, found)


TABLES = {
    "tame": tables(),
    "one seed": tables(seeds=1),
    "one table": tables(seeds=1)[0],
    "T = 1": tables(T=1),
    "T = 0": tables(T=0),
    "batch behind": np.moveaxis(tables(seeds=3), 0, -1),
    "as many seeds as states": np.moveaxis(tables(T=4, seeds=5), 0, -1),
    "NaN in one seed": with_nan_in_one_seed(tables()),
    "all NaN": np.full((2, 5, 5), np.nan),
    "all zero": zero(tables()),
    "all -inf": np.full((2, 5, 5), -np.inf),
    "explodes": tables(rate=300.0),
}


@pytest.mark.parametrize("name", TABLES)
def test_norms_and_slack(name):
    table = TABLES[name]
    bounds = {"bound": table + 0.5, r"$(\lambda_W \lambda_\varphi)^{t-k}$": table + 1}
    if name == "tame":
        bounds |= {f"{LONG} {n}": table + n for n in range(2, 12)}
    for figure in (
        plotting.norms(table, bounds=bounds, title=LONG if name == "tame" else ""),
        plotting.slack(table, bounds),
    ):
        assert_fits_a_page(figure, 3.3)


def test_norms_by_lag_are_those_of_the_known_seeds():
    table = TABLES["NaN in one seed"]
    figure = plotting.norms(table)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "measured, median"]
    assert np.isfinite(line.get_ydata()).all()
    one = np.percentile(np.diagonal(np.delete(table, 1, 0), -12, 1, 2), 50, method="nearest")
    assert line.get_ydata()[-1] == pytest.approx(one / np.log(10))
    behind = plotting.norms(TABLES["as many seeds as states"]).axes[0].lines[0].get_ydata()
    before = np.moveaxis(TABLES["as many seeds as states"], -1, 0)
    np.testing.assert_array_equal(behind, plotting.norms(before).axes[0].lines[0].get_ydata())


def test_what_check_bounds_returns_is_drawn():
    table = tables()
    check = types.SimpleNamespace(measured=table, bound=table + 2)
    figure = plotting.norms({"product": check}, bounds={"mine": table + 1})
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["product", "mine", "measured, median"]
    slack = plotting.slack({"product": check}).axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(slack, 2)


def test_slack_is_endless_where_the_norm_is_zero():
    figure = plotting.slack(zero(tables(T=4)), {"bound": np.zeros((5, 5))})
    line, *more = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [0, *[np.nan] * 4])
    (marks,) = [each for each in more if each.get_label() == "bound: measured 0"]
    np.testing.assert_array_equal(marks.get_xdata(), [1, 2, 3, 4])


SPECTRA = {
    "tame": {"a": np.linspace(0.2, -2, 12), "b": RNG.normal(size=(12, 6))},
    "one exponent": [0.3],
    "-inf and NaN": np.array([0.1, -0.4, -np.inf, np.nan]),
    "all -inf": np.full((3, 2), -np.inf),
    "NaN in one seed": np.array([[0.1, np.nan, 0.2], [-1, np.nan, -2.0]]),
    "twenty, long names": {f"{LONG} {n}": np.linspace(n, -n, 200) for n in range(20)},
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra(name):
    assert_fits_a_page(plotting.spectrum(SPECTRA[name], title=name), 3.3)


def test_standard_errors_are_drawn():
    found = types.SimpleNamespace(
        exponents=np.array([0.1, -1.0]), standard_errors=np.array([0.05, np.nan])
    )
    (bars,) = plotting.spectrum(found).axes[0].containers
    (segments,) = [lines.get_segments() for lines in bars[2]]
    np.testing.assert_allclose([segment[:, 1] for segment in segments], [[0.05, 0.15], [-1, -1]])
    with pytest.raises(ValueError, match=r"^standard_errors: got .*; expected .+\. [A-Z]"):
        plotting.spectrum([1.0, 2.0], standard_errors=[1.0])


def error(seeds=4, n=6):
    k2 = 2 ** np.arange(n)
    fall = np.exp(-0.4 * k2)[:, None] * RNG.uniform(0.5, 1, (n, seeds))
    return {"k2": k2, "relative_error": fall, "cosine": 1 - fall}


ERRORS = {
    "tame": {"Elman": error(), "LSTM": error()},
    "one seed": error(1),
    "one window": error(n=1),
    "exact at last": {"k2": [1, 4], "relative_error": [0.5, 0], "cosine": [0.5, 1]},
    "exact": {"k2": [1, 4], "relative_error": [0, 0], "cosine": [1, 1]},
    "NaN": {"k2": [1, 4], "relative_error": [np.nan] * 2, "cosine": [np.nan] * 2},
    "twenty, long names": {f"{LONG} {n}": error() for n in range(20)},
}


@pytest.mark.parametrize("name", ERRORS)
def test_truncations(name):
    figure = plotting.truncation(ERRORS[name], title=name)
    assert_fits_a_page(figure, 6.75)
    assert len(panels_of(figure)) == 2
    if name == "exact at last":
        (mark,) = [line for line in figure.axes[0].lines if line.get_label() == "no error"]
        np.testing.assert_array_equal(mark.get_xdata(), [4])


MAPS = {
    "tame": tables(30, 1)[0, 1:],
    "of products": tables(30, 1)[0],
    "of parameters": np.where(np.tri(5) > 0, -1.0, -np.inf),
    "T = 1": np.zeros((1, 2)),
    "all -inf": np.full((4, 5), -np.inf),
    "all NaN": np.full((4, 5), np.nan),
    "a batch": np.moveaxis(tables(9, 3)[:, 1:], 0, -1),
    "holes": np.where(np.tri(8, 9, 1) > 0, 12.0 * -np.subtract.outer(range(8), range(9)), np.nan),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(name):
    figure = plotting.heatmap(MAPS[name], title=name)
    assert_fits_a_page(figure, 3.3)
    assert len([ax for ax in figure.axes if hasattr(ax, "_colorbar")]) == 1


def test_a_map_says_what_its_cells_are():
    table = np.where(np.tri(6, 7, 1) > 0, 0.0, -np.inf)
    table[3, 0], table[4, 0], table[5, 0] = -np.inf, np.nan, -100.0
    figure = plotting.heatmap(table)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"empty: k > t, no gradient", "zero", "not finite", "below $10^{-12}$"}
    whole = plotting.heatmap(table[:3, :4])
    assert {text.get_text() for text in whole.legends[0].get_texts()} == {
        "empty: k > t, no gradient"
    }
    (mesh,) = figure.axes[0].collections
    shown = mesh.get_array().reshape(6, 7)
    assert not shown.mask[5, 0]
    assert shown[5, 0] == mesh.norm.vmin
    assert shown[3, 0] < mesh.norm.vmin


def curves(steps=60, seeds=3):
    return np.exp(-np.linspace(0, 3, steps)) + 0.01 * RNG.random((seeds, steps))


PANELS = {
    "an array": curves(),
    "one seed": curves(seeds=1),
    "one axis": curves()[0],
    "one step": curves(1),
    "no step": curves(0),
    "two arms": {"clipped": curves(), "not clipped": curves() + 0.1},
    "all -inf": {"a": np.full((2, 9), -np.inf)},
    "NaN in one seed": np.where(np.arange(3)[:, None] == 1, np.nan, curves()),
    "twenty, long names": {f"{LONG} {n}": curves() + n for n in range(20)},
    "two panels": {"a": {"x": curves().T}, LONG: {"x": curves().T, "y": curves().T}},
    "twelve panels": {f"{LONG} {n}": {"x": curves().T} for n in range(12)},
}


@pytest.mark.parametrize("name", PANELS)
def test_curves(name):
    losses = plotting.learning_curves(PANELS[name], baseline=0.7, unit="loss (nats)")
    assert_fits_a_page(losses, 6.75 if "panels" in name else 3.3)
    if "twe" not in name:
        norms = plotting.gradient_norms(PANELS[name], clip_norm=0.5)
        assert_fits_a_page(norms, losses.get_figwidth())
    assert {ax.get_ylabel() for ax in losses.axes} == {"loss (nats)"}


def test_curves_of_seeds_first_are_those_of_time_first():
    one, panels = curves(), {"": {"": curves()}}
    panels[""][""] = one.T
    of = lambda figure: figure.axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(
        of(plotting.learning_curves(one)), of(plotting.learning_curves(panels))
    )
    labelled = plotting.learning_curves(one, ylabel="bits per character")
    assert labelled.axes[0].get_ylabel() == "bits per character"
    evaluated = plotting.learning_curves(
        {"a": one}, held_out={"a": ([0, 30, 60], np.full((3, 3), 0.5))}
    )
    assert "a, held out" in [line.get_label() for line in evaluated.axes[0].lines]


def record(steps=40, T=9, value=None):
    profile = -np.linspace(0, 6, T)[::-1] + 0.1 * RNG.normal(size=(steps, T))
    fill = lambda found: found if value is None else np.full_like(found, value)
    return {
        "loss": fill(np.exp(-np.linspace(0, 3, steps))),
        "grad_norm": fill(RNG.uniform(0.1, 3, steps)),
        "clipped": RNG.random(steps) > 0.5,
        "state_log_norms": fill(profile),
        "omega": fill(RNG.random(steps)),
        "horizon": np.where(RNG.random(steps) > 0.3, fill(np.full(steps, 4.0)), np.inf),
        "spectral_norm/W": fill(np.linspace(1, 2, steps)),
        "spectral_radius/W": fill(np.linspace(0.9, 1.2, steps)),
        **{f"spectral_norm/{LONG} {n}": np.ones((steps, 4)) for n in range(2)},
    }


RECORDS = {
    "tame": record(),
    "one step": record(1),
    "one state": record(T=1),
    "NaN": record(value=np.nan),
    "zero": record() | {"state_log_norms": np.full((40, 9), -np.inf), "omega": np.zeros(40)},
}


@pytest.mark.parametrize("name", RECORDS)
def test_telemetry(name):
    figure = plotting.telemetry(RECORDS[name], clip_norm=1.0)
    assert_fits_a_page(figure, 6.75)


def test_some_panels_of_telemetry():
    figure = plotting.telemetry(record(), panels=("profile", "horizon"))
    assert_fits_a_page(figure, 6.75)
    assert len(panels_of(figure)) == 2
    assert_fits_a_page(plotting.telemetry(record(), panels="loss"), 3.3)
    with pytest.raises(ValueError, match=r"^panels: got .*; expected one of loss, gradient norm"):
        plotting.telemetry(record(), panels="losses")


@pytest.mark.parametrize("columns", [1, 2, 6])
def test_tables_of_many_cells(columns):
    by_phase = {
        phase: {"measured": tables(), "product_bound": tables(rate=-0.1)}
        for phase in ("before training", "after training")[:columns]
    }
    figure = plotting.decay({f"{LONG} {n}": by_phase for n in range(columns)})
    assert_fits_a_page(figure)
    maps = {f"{LONG} {n}": {"before": tables(seeds=1)[0, 1:]} for n in range(columns)}
    assert_fits_a_page(plotting.heatmaps(maps))


BAD = [
    (plotting.norms, "a word"),
    (plotting.norms, np.zeros((3, 4))),
    (plotting.norms, {"product": np.zeros((3, 3))}),
    (plotting.slack, np.zeros((3, 3))),
    (plotting.heatmap, np.zeros(3)),
    (plotting.heatmap, 1j * np.zeros((3, 3))),
    (plotting.spectrum, np.array([1j, 0.5])),
    (plotting.learning_curves, 1j * np.ones((2, 3))),
    (plotting.heatmap, np.zeros((3, 9))),
    (plotting.spectrum, {}),
    (plotting.spectrum, np.array(1.0)),
    (plotting.truncation, {"a": {"k2": [1]}}),
    (plotting.truncation, {"k2": [1, 2], "cosine": [1], "relative_error": [1, 2]}),
    (plotting.learning_curves, {}),
    (plotting.learning_curves, {"a": np.ones(3), "b": {"c": np.ones(3)}}),
    (plotting.learning_curves, np.ones((2, 3, 4))),
    (plotting.telemetry, {"loss": np.ones(3)}),
]


@pytest.mark.parametrize(("function", "value"), BAD, ids=lambda v: getattr(v, "__name__", ""))
def test_what_cannot_be_drawn_is_refused(function, value):
    with pytest.raises(ValueError, match=r"(?s)^[\w\[\]' .]+: got .+; expected .+\. [A-Z]"):
        function(value)


def test_a_bound_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"^bounds\['b'\]: got .*; expected .+\. [A-Z]"):
        plotting.norms(np.zeros((3, 3)), bounds={"b": np.zeros((4, 4))})


def test_a_bound_has_one_colour_and_line_in_all_panels():
    """The LSTM of a figure has no power bound; its product must not be drawn as one."""
    table = np.where(np.tri(5) > 0, -np.abs(np.subtract.outer(range(5), range(5))), -np.inf)[None]
    both = {"measured": table, "power_bound": table + 1, "product_bound": table + 0.5}
    one = {"measured": table, "product_bound": table + 0.5}
    figure = plotting.decay({"Elman": {"as drawn": both}, "LSTM": {"as drawn": one}})
    first, second = (
        {line.get_label(): (line.get_color(), line.get_linestyle()) for line in ax.lines}
        for ax in figure.axes
    )
    assert len(first) == len(second) + 1
    assert second.items() <= first.items()
    assert len(set(first.values())) == len(first)


def test_letters_are_in_the_order_of_reading_where_columns_go_on_below():
    table = np.where(np.tri(5, 6, 1) > 0, 0.0, -np.inf)
    figure = plotting.heatmaps({f"cell {n}": {"before": table, "after": table} for n in range(4)})
    panels = panels_of(figure)
    figure.draw_without_rendering()
    place = lambda ax: (-round(ax.get_position().y0, 2), ax.get_position().x0)
    read = [ax.get_title(loc="left") for ax in sorted(panels, key=place)]
    assert read == [f"({letter})" for letter in "abcdefgh"]
