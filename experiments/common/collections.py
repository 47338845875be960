"""The two collections of studies: each of them is run by one command and told on one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Collection(NamedTuple):
    """Studies that `experiments.reproduce` runs one after another.

    Attributes:
      studies: what each sets at reduced size, by name, in the order of the page.
      out: folder of the runs, one folder each.
      page: the page that tells of them.
      keep: folder of the numbers and figures behind the page.
      beside: what a measured number stands beside; it heads that column of the page.
      head: how the page begins, in Markdown; `{kept}` stands for the path of `keep`.
    """

    studies: Mapping[str, Mapping[str, Any]]
    out: Path
    page: Path
    keep: Path
    beside: str
    head: str


PUBLISHED = Collection(
    studies={
        "temporal_order": {},
        "clipping": {},
        "adding": {},
        "copying": {},
        "lstm_1997": {},
        "sequential_digits": {},
        "vowels": {},
        "chorales": {},
        "char_lm": {},
        "state_tracking": {},
        "turing": {},
        "parameter_sharing": {"seeds": 4},
        "gradient_claims": {},
    },
    out=Path("runs/reproductions"),
    page=Path("REPRODUCTIONS.md"),
    keep=Path("docs/reproductions"),
    beside="published",
    head="""# Reproductions

What papers of this field found, and what their experiments give here. Each study is one command;
`make reproduce` runs them all in their reduced settings and writes this page from their run
folders, whose numbers and figures are in [{kept}]({kept}).

*Ours* is the median over networks that differ in their seeds, with the 10th and the 90th
percentile; a verdict is about that median. Where a published number is not reached, the verdict
says so. Where all was run again from other base seeds, their medians stand beside, and how many of
them bear the claim out.
""",
)

THEORY = Collection(
    studies={
        "eigenvalue_myth": {},
        "error_surface": {},
        "forget_gate": {},
        "memory_without_explosion": {},
        "phase_diagram": {},
        "lyapunov_theory": {},
        "truncation_bias": {},
        "influence_balancing": {},
        "flossing": {},
    },
    out=Path("runs/studies"),
    page=Path("docs/studies.md"),
    keep=Path("docs/studies"),
    beside="theory",
    head="""# Theory, measured

What theory says of gradients in recurrent networks, and what is measured. Each study is one
command; `make reproduce ARGS="--studies theory"` runs them all and writes this page from their run
folders, whose numbers and figures are in [{kept}]({kept}).

*Ours* is what was measured; where several networks were, the median, with the 10th and the 90th
percentile. A claim is borne out where the number lies in the interval that is asked of it. Where
all was run again from other base seeds, their numbers stand beside, and how many of them bear the
claim out.
""",
)

COLLECTIONS: Mapping[str, Collection] = {"published": PUBLISHED, "theory": THEORY}
"""By what `experiments.reproduce --studies` calls them."""
