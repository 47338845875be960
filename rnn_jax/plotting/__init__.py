"""Figures of arrays of your own, and of what the laboratory and training return.

Nothing here trains, shows or saves. Needs matplotlib, which `import rnn_jax` does not; pyplot is
not touched, and no rcParams are set but by a `style` that you enter.
"""

from rnn_jax.errors import optional

optional("matplotlib", "pip install matplotlib, or the extra [experiments]")

from rnn_jax.plotting._heatmap import heatmap, heatmaps  # noqa: E402
from rnn_jax.plotting._learning_curves import gradient_norms, learning_curves  # noqa: E402
from rnn_jax.plotting._letters import letters  # noqa: E402
from rnn_jax.plotting._norms import decay, norms  # noqa: E402
from rnn_jax.plotting._palette import PALETTE  # noqa: E402
from rnn_jax.plotting._shown_figure import ShownFigure  # noqa: E402
from rnn_jax.plotting._slack import slack  # noqa: E402
from rnn_jax.plotting._spectrum import spectrum  # noqa: E402
from rnn_jax.plotting._style import style  # noqa: E402
from rnn_jax.plotting._tables import band_by_lag  # noqa: E402
from rnn_jax.plotting._telemetry import telemetry  # noqa: E402
from rnn_jax.plotting._truncation import truncation  # noqa: E402
from rnn_jax.plotting.examples_of_tasks import task_examples  # noqa: E402

__all__ = [
    "PALETTE",
    "ShownFigure",
    "band_by_lag",
    "decay",
    "gradient_norms",
    "heatmap",
    "heatmaps",
    "learning_curves",
    "letters",
    "norms",
    "slack",
    "spectrum",
    "style",
    "task_examples",
    "telemetry",
    "truncation",
]
