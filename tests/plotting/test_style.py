"""Whose settings hold, where a figure may be shown, and what is the same in each of its files."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rnn_jax import plotting
from tests.plotting.page import assert_fits_a_page, smallest_type

CURVES = np.linspace(1, 0.1, 60)[None]


@pytest.mark.parametrize(("width", "inches"), [("column", 3.3), ("text", 6.75)])
def test_a_figure_of_a_page_has_type_that_can_be_read(width, inches):
    with plotting.style(width):
        figure = plotting.learning_curves({"adding": CURVES})
    assert figure.get_figwidth() == inches
    assert_fits_a_page(figure, inches)
    with matplotlib.rc_context(plotting.style(width)):
        own = Figure(layout="constrained")
        ax = own.subplots()
    ax.plot([1, 1000], [1, 1e5])
    ax.set(xlabel="$x_i$", ylabel="y", xscale="log", title="title")
    assert own.get_figwidth() == inches
    size, script = smallest_type(own)
    assert (size >= 7, script >= 5) == (True, True)


def test_one_style_around_another_and_back():
    before = dict(matplotlib.rcParams)
    with plotting.style("column"), plotting.style("text"):
        assert matplotlib.rcParams["figure.figsize"][0] == 6.75
        assert matplotlib.rcParams["font.size"] == 8.6
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(ValueError, match=r"^width: got .*; expected one of column, text"):
        plotting.style("page")


def test_what_the_user_has_set_holds():
    mine = {
        "font.size": 12,
        "figure.figsize": (5, 4),
        "lines.linewidth": 3,
        "axes.prop_cycle": matplotlib.cycler(color=["#ff00ff", "#00ff00", "#0000ff"]),
        "image.cmap": "cividis",
        "axes.spines.top": True,
        "axes.grid": False,
    }
    with matplotlib.rc_context(mine):
        # True and False are matplotlib's own here, and cannot be told from it.
        assert plotting.style().keys().isdisjoint(set(mine) - {"axes.spines.top", "axes.grid"})
        figure = plotting.learning_curves({"a": CURVES, "b": CURVES / 2})
        heat = plotting.heatmap(np.where(np.tri(4, 5, 1) > 0, 0.0, -np.inf))
        assert matplotlib.rcParams["font.size"] == 12
    assert tuple(figure.get_size_inches()) == (5, 4)
    (ax,) = figure.axes
    assert ax.xaxis.label.get_fontsize() == 12
    assert [line.get_color() for line in ax.lines] == ["#ff00ff", "#00ff00"]
    assert ax.lines[0].get_linewidth() == 3
    assert heat.axes[0].collections[0].get_cmap().name == "cividis"
    ours = plotting.learning_curves({"a": CURVES})
    assert ours.axes[0].lines[0].get_color() == plotting.PALETTE[0]


def test_an_axes_of_the_user_is_all_that_is_touched():
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([1, 2], label="mine")
    left.set_title("mine")
    before = FigureCanvasAgg(figure)
    before.draw()
    left_now = (left.get_title(), left.get_xlabel(), len(left.lines), left.get_legend())
    table = np.where(np.tri(6) > 0, -np.subtract.outer(np.arange(6), np.arange(6)), -np.inf)
    error = {"k2": [1, 2], "relative_error": [0.5, 0.0], "cosine": [0.9, 1.0]}
    calls = {
        "norms": lambda ax: plotting.norms(table, bounds={"bound": table + 1}, ax=ax),
        "slack": lambda ax: plotting.slack(table, {"bound": table + 1}, ax=ax),
        "spectrum": lambda ax: plotting.spectrum([0.1, -1.0], ax=ax),
        "learning_curves": lambda ax: plotting.learning_curves(CURVES, ax=ax),
        "gradient_norms": lambda ax: plotting.gradient_norms(CURVES, ax=ax),
    }
    for draw in calls.values():
        right.clear()
        assert draw(right) is right
        assert right.get_xlabel()
        assert right.get_ylabel()
        assert right.lines
        assert right.xaxis.label.get_fontsize() == matplotlib.rcParamsDefault["font.size"]
        assert figure.axes == [left, right]
        assert not figure.legends
    pair = figure.subplots(1, 2)
    assert plotting.truncation(error, ax=pair) is pair
    assert plotting.heatmap(table, ax=right) is right
    now = (left.get_title(), left.get_xlabel(), len(left.lines), left.get_legend())
    assert now == left_now
    assert tuple(figure.get_size_inches()) == (7, 3)
    assert figure.get_suptitle() == ""


@pytest.mark.parametrize("ax", [3, "ax", [None, None], []])
def test_an_ax_that_is_none_is_refused(ax):
    with pytest.raises(ValueError, match=r"^ax: got .*; expected .+\. [A-Z]"):
        plotting.norms(np.zeros((1, 1)), ax=ax)


def test_a_figure_shows_itself_as_it_was_made():
    with matplotlib.rc_context({"font.size": 11}):
        figure = plotting.learning_curves({"a": CURVES})
    assert isinstance(figure, Figure)
    png = figure._repr_png_()
    assert png.startswith(b"\x89PNG")
    figure.axes[0].set_xlim(0, 1e5)  # ticks that were not there before
    with matplotlib.rc_context({"font.size": 30, "xtick.labelsize": 30}):
        FigureCanvasAgg(figure).draw()
    sizes = {label.get_fontsize() for label in figure.axes[0].get_xticklabels()}
    assert max(sizes) < 12


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_files_of_one_figure_are_the_same_bytes(tmp_path, suffix, monkeypatch):
    contents = []
    for time in ("1000000000", "1500000000"):
        # What matplotlib writes as the date, where it writes one.
        monkeypatch.setenv("SOURCE_DATE_EPOCH", time)
        file = tmp_path / f"{time}.{suffix}"
        figure = plotting.heatmap(np.where(np.tri(4, 5, 1) > 0, 0.0, -np.inf), title="$a_b$")
        figure.savefig(file)
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]
    plain = Figure()
    plain.subplots()
    if suffix != "png":
        plain.savefig(tmp_path / f"plain.{suffix}")
        assert b"2017" in (tmp_path / f"plain.{suffix}").read_bytes()


def test_neither_pyplot_nor_rcparams_are_touched():
    code = """
import sys, matplotlib, numpy as np
before = dict(matplotlib.rcParams.copy())
from rnn_jax import plotting
plotting.learning_curves(np.ones((2, 30)))._repr_png_()
assert "matplotlib.pyplot" not in sys.modules
assert dict(matplotlib.rcParams.copy()) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_letters():
    figure = Figure()
    axes = figure.subplots(5, 6)
    axes[0, 1].set_title("kept", loc="left")
    texts = plotting.letters(axes)
    assert [text.get_text() for text in texts[:3]] == ["(a)", "(b) kept", "(c)"]
    assert [text.get_text() for text in texts[25:28]] == ["(z)", "(aa)", "(ab)"]
    assert plotting.letters(axes[0, 0])[0].get_text() == "(a) (a)"
