"""Where sequences come from, behind one interface: `Task`."""

from rnn_jax.tasks.task import Task
from rnn_jax.tasks.text import (
    Text,
    load_text,
    next_character,
    one_hot,
    streams,
    unigram_entropy,
)

__all__ = ["Task", "Text", "load_text", "next_character", "one_hot", "streams", "unigram_entropy"]
