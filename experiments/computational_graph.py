"""The computational graph of a cell, folded and unfolded, drawn from its actual computation.

What is drawn is the cell's own jaxpr: one step with its operations, and the network unfolded over
time with its shared parameters and the path that the gradient ∂E_t/∂h_k takes, as PNG, SVG and PDF.

    python -m experiments.computational_graph [--cell lstm] [--steps 3] [--out FOLDER]
    python -m experiments.computational_graph --cell package.module:factory

A few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from experiments.common.cell_named import cell_named
from experiments.common.command_line import command_line
from experiments.common.run_folder import RunFolder
from experiments.common.settings import Limits, Settings, Size
from rnn_jax.cells import readout
from rnn_jax.errors import check_integer
from rnn_jax.graph import Graph, step_graph, unfolded_graph
from rnn_jax.graph.drawing import draw_folded, draw_unfolded


@dataclass(frozen=True)
class Config(Settings):
    """The cell and what is drawn of it."""

    cell: str = "lstm"
    """One of `rnn_jax.cells.CELLS`, or package.module:factory with factory(hidden_size) -> Cell."""
    output_size: Size | None = None
    """Outputs of a linear readout o = c + V y around the cell; none by default."""
    steps: Size = 3
    """Number of steps to unfold over."""
    gradient_from: Size | None = None
    """t of the highlighted ∂E_t/∂h_k; the last step by default."""
    gradient_to: Annotated[int, Limits(least=0)] = 1
    """k of the highlighted ∂E_t/∂h_k; 0 is the initial state."""
    leaf: str | None = None
    """One leaf of the state, as c of an LSTM; all of them by default."""
    hidden_size: Size = 4
    """H; the picture does not depend on it."""
    input_size: Size = 3
    """I; neither does it on this."""
    out: Path = Path("runs/computational_graph")
    """Where config.json and figures/ go."""

    def check_together(self) -> None:
        remedy = "Unfold over more --steps, or choose an earlier one."
        if self.gradient_from is not None:
            check_integer("gradient_from", self.gradient_from, most=self.steps, remedy=remedy)
        check_integer("gradient_to", self.gradient_to, 0, self.steps, remedy)


def main(config: Config) -> dict[str, Graph]:
    """Trace, draw and write; return the graphs by the names of their figures."""
    config.check()
    cell = cell_named(config.cell, config.hidden_size)
    if config.output_size is not None:
        cell = readout(cell, config.output_size)
    params = cell.init(jax.random.key(0), config.input_size)
    dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves(params)))
    x = jnp.zeros(config.input_size, dtype)
    graphs = {
        "folded": step_graph(cell, params, x),
        "unfolded": unfolded_graph(cell, params, x, config.steps),
        "unfolded_operations": unfolded_graph(cell, params, x, config.steps, detail="operations"),
    }
    figures = plot(graphs, config)
    with RunFolder(config.out).running(config, {}) as run:
        run.finish({}, "", figures)
    print(f"{', '.join(figures)} are in {run.path / 'figures'}/ as PNG, SVG and PDF.")
    return graphs


def plot(graphs: dict[str, Graph], config: Config) -> dict[str, Figure]:
    t = config.steps if config.gradient_from is None else config.gradient_from

    def draw(graph: Graph) -> Figure:
        if graph.steps is None:
            return draw_folded(graph)
        return draw_unfolded(graph, t, config.gradient_to, config.leaf)

    return {name: draw(graph) for name, graph in graphs.items()}


if __name__ == "__main__":
    command_line(Config, main, None, __doc__)
