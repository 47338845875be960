"""What the library's numbers are held against: one oracle a row, which the site's page lists."""

from tests.validation import (
    of_bounds,
    of_cells,
    of_exponents,
    of_gradients,
    of_machines,
    of_theory,
)
from tests.validation.oracle import ORACLES, Oracle

__all__ = ["MODULES", "ORACLES", "Oracle"]

MODULES = (of_gradients, of_bounds, of_exponents, of_theory, of_cells, of_machines)
"""In the order of the page: a title each, the first line of its docstring."""
