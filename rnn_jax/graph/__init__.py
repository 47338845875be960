"""The computational graph of any cell, read off its own jaxpr: data only, `drawing` draws it."""

from rnn_jax.graph.graph import Edge, Graph, Node, Path, gradient_path
from rnn_jax.graph.traced_graph import step_graph, unfolded_graph, without_operations

__all__ = [
    "Edge",
    "Graph",
    "Node",
    "Path",
    "gradient_path",
    "step_graph",
    "unfolded_graph",
    "without_operations",
]
