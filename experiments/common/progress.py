"""How far a study is: a bar on a terminal, a line now and then in a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeVar

from rnn_jax.training.progress import Progress

Item = TypeVar("Item")


def progress(steps: Collection[Item], label: str) -> Iterator[Item]:
    """Go through `steps`, saying how many are done."""
    with Progress(len(steps), label, None, hidden=False) as bar:
        for step in steps:
            yield step
            bar.update({}, 1)
