"""Pictures of computational graphs are legible."""

import io
import re
import warnings
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch

from experiments import computational_graph
from rnn_jax import cells
from rnn_jax.graph import gradient_path, step_graph, unfolded_graph
from rnn_jax.graph.drawing import draw_folded, draw_unfolded
from tests.lawful_cells import INPUT_SIZE

X = jnp.zeros(INPUT_SIZE)


def a_factory(hidden_size):
    return cells.lstm(hidden_size, dtype=jnp.float32)


@pytest.fixture(scope="module")
def figures(cell, params):
    graph = unfolded_graph(cell, params, X, 3)
    return draw_folded(step_graph(cell, params, X)), draw_unfolded(graph, 3, 1)


def test_every_cell_is_drawn_and_its_letters_are_in_the_svg(cell, params, figures):
    for figure in figures:
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure.savefig(file, format="svg")
        written = file.getvalue()
        for node in step_graph(cell, params, X).of_kind("parameter"):
            assert node.label.strip("$") in written
        for leaf in step_graph(cell, params, X).of_kind("state"):
            assert f'id="state_{re.sub(r"[^a-zA-Z0-9]+", "_", leaf.name)}' in written


def test_nothing_overlaps(figures):
    for figure in figures:
        patches = figure.axes[0].patches
        boxes = {p.get_gid(): p for p in patches if isinstance(p, Ellipse | FancyBboxPatch)}
        extents = {}
        for gid, box in boxes.items():
            if isinstance(box, Ellipse):
                (x, y), w, h = box.center, box.width, box.height
                extents[gid] = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            else:
                x, y, w, h = box.get_x(), box.get_y(), box.get_width(), box.get_height()
                extents[gid] = np.array([x, y, x + w, y + h])
        for a, one in extents.items():
            for b, other in extents.items():
                apart = (one[2:] < other[:2]).any() or (other[2:] < one[:2]).any()
                assert a == b or apart, (a, b)
        for arrow in patches:
            if not isinstance(arrow, FancyArrowPatch) or not arrow.get_gid():
                continue
            ends = arrow.get_gid().split("->")
            points = arrow._path_original.interpolated(1).to_polygons(closed_only=False)[0]
            for gid, (left, low, right, high) in extents.items():
                inside = (points > [left, low]).all(1) & (points < [right, high]).all(1)
                assert gid in ends or not inside.any(), (arrow.get_gid(), gid)


def test_the_highlighted_path_is_the_gradients():
    cell = cells.lstm(3, dtype=jnp.float64)
    graph = unfolded_graph(cell, cell.init(jax.random.key(0), INPUT_SIZE), X, 3)
    for k in (0, 2):
        path = gradient_path(graph, 3, k)
        highlighted = {
            patch.get_gid()
            for patch in draw_unfolded(graph, 3, k).axes[0].patches
            if isinstance(patch, FancyArrowPatch) and patch.get_linewidth() > 2
        }
        expected = {
            f"{e.source}->{e.target}".replace(" @ ", "_").replace(" ", "_") for e in path.edges
        }
        assert {gid.replace("_@_", "_") for gid in highlighted} == expected


def test_a_graph_may_be_drawn_with_one_output_alone():
    cell = cells.readout(cells.elman(4, dtype=jnp.float64), 2)
    whole = unfolded_graph(cell, cell.init(jax.random.key(0), INPUT_SIZE), X, 3)
    nodes = {
        name: node
        for name, node in whole.nodes.items()
        if node.kind not in ("output", "loss") or node.step == 3
    }
    edges = tuple(e for e in whole.edges if {e.source, e.target} <= nodes.keys())
    figure = draw_unfolded(replace(whole, nodes=nodes, edges=edges), 3, 1)
    boxes = [p for p in figure.axes[0].patches if isinstance(p, Ellipse | FancyBboxPatch)]
    kinds = Counter(str(box.get_gid()).partition("_")[0] for box in boxes)
    # V and c where they are read, and W, U and b at every step.
    assert kinds == {"state": 4, "input": 3, "output": 1, "loss": 1, "parameter": 1 + 3}


def test_the_command_writes_every_figure(tmp_path):
    name = f"{__name__}:a_factory"
    arguments = ["--cell", name, "--output-size", "2", "--steps", "2", "--out", str(tmp_path)]
    computational_graph.main(tyro.cli(computational_graph.Config, args=arguments))
    for figure in ("folded", "unfolded", "unfolded_operations"):
        assert (tmp_path / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "figures" / f"{figure}.svg").read_text()
    assert name in (tmp_path / "config.json").read_text()
