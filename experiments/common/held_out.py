"""Whether a text is long enough for what is measured on its held-out part."""

from __future__ import annotations

from rnn_jax.errors import invalid
from rnn_jax.tasks import Text


def check_held_out(text: Text, steps: int) -> None:
    """Raise ValueError unless `steps` characters of `text.held_out` have a next one."""
    if len(text.held_out) <= steps:
        raise invalid(
            "text",
            f"{len(text.held_out)} held-out characters in {text.name}",
            f"more than {steps:,}",
            "Pass a longer text, or a smaller T.",
        )
