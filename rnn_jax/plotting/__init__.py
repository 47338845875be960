"""Figures of arrays of your own: nothing here trains, shows or saves.

Needs matplotlib, which `import rnn_jax` does not.
"""

from rnn_jax.errors import optional

optional("matplotlib", "pip install matplotlib, or the extra [experiments]")

from rnn_jax.plotting.examples_of_tasks import task_examples  # noqa: E402
from rnn_jax.plotting.norm_tables import band_by_lag, decay, heatmaps  # noqa: E402
from rnn_jax.plotting.telemetry_panels import telemetry  # noqa: E402
from rnn_jax.plotting.training_curves import gradient_norms, learning_curves  # noqa: E402

__all__ = [
    "band_by_lag",
    "decay",
    "gradient_norms",
    "heatmaps",
    "learning_curves",
    "task_examples",
    "telemetry",
]
