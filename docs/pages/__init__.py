"""Pages of the site that are made of the code: the reference, a page a cell, a page a study."""

from pathlib import Path

from docs.pages.cells import write_cells
from docs.pages.reference import public_names, write_reference
from docs.pages.studies import write_studies

__all__ = ["SHOWN", "public_names", "write"]

SHOWN = {
    "architecture",
    "benchmarks",
    "changelog",
    "cluster",
    "contributing",
    "named_scopes",
    "training",
}
"""Pages whose Python is shown and not run on the site: it wants a cluster, or takes long."""


def write(docs: Path) -> None:
    """Write them all into the folder of the site's sources; what has not changed is left alone."""
    write_reference(docs / "reference")
    write_cells(docs / "cells")
    write_studies(docs)
