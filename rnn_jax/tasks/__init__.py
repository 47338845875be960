"""Tasks: sequences with targets, drawn by key and step, behind one interface, `Task`."""

from rnn_jax.tasks.characters import (
    StreamTask,
    consecutive_characters,
    next_character,
    one_hot,
    streams,
)
from rnn_jax.tasks.sentences import Sentence, Templates, year_sentences
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.text import Text, load_text, unigram_entropy

__all__ = [
    "Sentence",
    "StreamTask",
    "Task",
    "Templates",
    "Text",
    "consecutive_characters",
    "load_text",
    "next_character",
    "one_hot",
    "streams",
    "unigram_entropy",
    "year_sentences",
]
