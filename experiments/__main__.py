"""List the studies: what each claims, and how long it takes on two cores.

python -m experiments
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from experiments.common.collections import PUBLISHED, THEORY
from experiments.common.docstring import first_sentence, parts_in

FOLDER = Path(__file__).parent
COLUMNS = 100
GROUPS: dict[str, Iterable[str]] = {
    "The main study": ("gradient_decay",),
    "Theory, measured (all of them: reproduce --studies theory)": THEORY.studies,
    "Published results (all of them: reproduce)": PUBLISHED.studies,
    "Tools": ("train", "sweep", "reproduce", "computational_graph"),
}
"""The studies in the order in which they are listed."""


def listed() -> str:
    """Return the list, in lines of at most 100 columns."""
    parts = [
        "python -m experiments.NAME in a clone, rnn-jax-study NAME in any folder: runs a study.\n"
        "NAME --help: lists its settings."
    ]
    for title, names in GROUPS.items():
        parts += [f"# {title}", *map(entry, names)]
    return "\n\n".join(parts)


def entry(name: str) -> str:
    """Return what the list says of a study: its name, time, headline and claim's first sentence."""
    headline, claim, time = parts_in(FOLDER / f"{name}.py")
    title = f"{name}   {time[:1].lower()}{time[1:].rstrip('.')}".rstrip()
    told = [headline, first_sentence(claim)] if claim else [headline]
    fill = lambda text: textwrap.indent(
        textwrap.fill(text, COLUMNS - 4, break_on_hyphens=False), " " * 4
    )
    return "\n".join([title, *map(fill, told)])


if __name__ == "__main__":
    print(listed())
