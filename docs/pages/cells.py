"""A page a cell: what it computes, its graph, and where its gradient goes as it is drawn."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from docs.pages.files import heading, write_all
from rnn_jax import gradients, plotting
from rnn_jax.cell import Cell
from rnn_jax.cells import CELLS
from rnn_jax.graph import step_graph
from rnn_jax.graph.drawing import draw_folded

H, I, T, SEEDS = 32, 8, 60, 8
MAX_STATE = 128
KEY = jax.random.key(0)
DECAYS = "decays.npz"


def write_cells(folder: Path) -> None:
    """Write a page and two drawings for each cell of `CELLS`, and the page that lists them.

    Norms are measured once and kept in the folder until `make clean`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    norms = _measured(folder / DECAYS)
    for name, make in CELLS.items():
        _draw(folder, name, make, norms[name])
    listed = "\n".join(f"   {name}" for name in CELLS)
    rates = {name: _rate(norms[name]) for name in CELLS}
    rows = "\n".join(
        f'   ":doc:`{name}`", "{_first(make)}", "{rates[name]}"' for name, make in CELLS.items()
    )
    index = [
        heading("The cells"),
        "Every cell of `cells.CELLS`: its equation, the paper, where the code departs from it, its "
        "graph, and how ‖∂s_t/∂s_k‖₂ changes with the lag before any training. The rate is the "
        f"slope of its logarithm, in nats a step, the median of {SEEDS} draws of {H} units (fewer "
        f"where the state is larger) that read {T} steps of Gaussian noise.",
        f'.. csv-table::\n   :header: "cell", "what it is", "nats a step"\n\n{rows}',
        f".. toctree::\n   :hidden:\n\n{listed}",
    ]
    pages = {f"{name}.rst": _page(name, rates[name]) for name in CELLS}
    write_all(folder, {"index.rst": "\n\n".join(index) + "\n", **pages})


def _page(name: str, rate: str) -> str:
    parts = [
        heading(name),
        f".. autofunction:: rnn_jax.cells.{name}",
        heading("Its graph", "-"),
        "One step as its own program computes it; what goes around is the state.",
        f".. image:: {name}_graph.svg\n   :alt: computational graph of one step of {name}",
        heading("Its gradient before training", "-"),
        f"‖∂s_t/∂s_k‖₂ of the whole state s by lag, of {SEEDS} networks of {units_of(name)} units "
        f"with the weights that `init` draws, over {T} steps of Gaussian noise in {I} channels: "
        "median and 10 to 90 % over networks and pairs (t, k), beside its bounds. It changes by "
        f"{rate} nats a step in the median.",
        f".. image:: {name}_decay.svg\n   :alt: norms of the Jacobians of {name} by lag",
    ]
    return "\n\n".join(parts) + "\n"


def _first(make: object) -> str:
    """Return what the docstring says that the cell is."""
    first = (inspect.getdoc(make) or "").split("\n\n")[0]
    return " ".join(first.split()).removeprefix("Return ").rstrip(".").replace('"', "'")


def _rate(norms: dict[str, np.ndarray]) -> str:
    return f"{np.median(norms['rate']):+.3f}"


def _draw(folder: Path, name: str, make: Callable[..., Cell], norms: dict[str, np.ndarray]) -> None:
    """Draw a cell's graph and the norms of its Jacobians, unless they are there."""
    if not (folder / f"{name}_graph.svg").is_file():
        cell = make(4)
        graph = step_graph(cell, cell.init(jax.random.key(0), 3), jnp.zeros(3))
        draw_folded(graph).savefig(folder / f"{name}_graph.svg", metadata={"Date": None})
    if not (folder / f"{name}_decay.svg").is_file():
        tables = {key: norms[key] for key in norms if key != "rate"}
        figure = plotting.decay({name: {"as drawn": tables}})
        figure.savefig(folder / f"{name}_decay.svg", metadata={"Date": None})


def _measured(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return norms, bounds and rates of every cell; what the file has is not measured again."""
    found: dict[str, dict[str, np.ndarray]] = {}
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            for path in kept.files:
                name, _, what = path.partition("/")
                found.setdefault(name, {})[what] = kept[path]
    for name in CELLS:
        if name not in found:
            found[name] = _norms_of(name)
            flat: dict[str, Any] = {
                f"{name}/{what}": value for name, of in found.items() for what, value in of.items()
            }
            np.savez_compressed(file, allow_pickle=False, **flat)
    return {name: found[name] for name in CELLS}


def units_of(name: str) -> int:
    """Return H, fewer where the state of H units is large: no more than MAX_STATE numbers."""
    for units in (H, H // 2, H // 4):
        cell = CELLS[name](units)
        state = jax.eval_shape(lambda key, cell=cell: cell.initial_state(cell.init(key, I)), KEY)
        if sum(leaf.size for leaf in jax.tree.leaves(state)) <= MAX_STATE:
            break
    return units


def _norms_of(name: str) -> dict[str, np.ndarray]:
    """Return a cell's norms and bounds `[seeds, T+1, T+1]`, and the rate of each network."""
    print(f"norms of {name}", flush=True)
    cell = CELLS[name](units_of(name))
    xs = jax.random.normal(jax.random.key(1), (T, I))

    @jax.jit
    def of_one(key: jax.Array) -> dict[str, jax.Array]:
        params = cell.init(key, I)
        jacobians = gradients.step_jacobians(cell, params, xs)
        measured = gradients.product_log_norms(jacobians, rtol=1e-3)
        found = {
            "measured": measured,
            "product_bound": gradients.product_bound(jacobians),
            "rate": gradients.decay_rate(measured),
        }
        if cell.norm_bound_terms is not None:
            terms = gradients.norm_bound(cell, params)
            found["power_bound"] = gradients.power_bound(*terms, T=T)
        return found

    found = jax.device_get(jax.lax.map(of_one, jax.random.split(KEY, SEEDS)))
    return {name: np.asarray(value) for name, value in found.items()}
