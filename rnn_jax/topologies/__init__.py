"""Networks over time, beyond one pass over given inputs.

| topology      | how                                                                        |
| ------------- | -------------------------------------------------------------------------- |
| many-to-many  | `unroll`                                                                   |
| many-to-one   | `unroll` and `losses.last_step`                                            |
| one-to-many   | `unroll_feedback`; or `unroll` with the one input repeated at every step   |
| bidirectional | `bidirectional`                                                            |
| deep          | `cells.stack`; a stack of bidirectional layers is one call after the other |
| encode-decode | `encode_decode`, with any of these as the decoder                          |

A network that runs on its own outputs takes a `feed`, `(key, y [*batch, O]) -> x [*batch, I]`.
"""

from rnn_jax.topologies._bidirectional import bidirectional
from rnn_jax.topologies._encode_decode import encode_decode
from rnn_jax.topologies.feedback import Generated, generate, teacher_forcing, unroll_feedback
from rnn_jax.topologies.feeds import Feed, feed_output, sample_one_hot

__all__ = [
    "Feed",
    "Generated",
    "bidirectional",
    "encode_decode",
    "feed_output",
    "generate",
    "sample_one_hot",
    "teacher_forcing",
    "unroll_feedback",
]
