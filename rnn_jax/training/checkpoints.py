"""States and metrics on disk, by orbax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnn_jax.errors import invalid

History = dict[str, np.ndarray]


class Checkpoints:
    """The last state and metrics of a run in a folder; does nothing where the folder is None."""

    def __init__(self, directory: str | Path | None):
        self._directory = None if directory is None else Path(directory).absolute()
        self._manager: Any = None

    def __enter__(self):
        if self._directory is not None:
            import orbax.checkpoint as ocp

            options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True)
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        return self

    def __exit__(self, *_):
        if self._manager is not None:
            self._manager.close()

    def save(self, step: int, state: Any, history: History) -> None:
        """Keep what there is after `step` steps; returns before it is all written."""
        if self._manager is not None:
            import orbax.checkpoint as ocp

            copied = {name: values.copy() for name, values in history.items()}
            kept = {"state": state, "history": copied}
            self._manager.save(step, args=ocp.args.StandardSave(kept))

    def restore(self, state: Any, history: History) -> tuple[int, Any, History]:
        """(steps done, state, history) of the last checkpoint, or (0, state, history) as given.

        Raises:
          ValueError: a checkpoint that is broken, or not of the shapes of `state` and `history`.
        """
        step = None if self._manager is None else self._manager.latest_step()
        if step is None:
            return 0, state, history
        import orbax.checkpoint as ocp

        wanted = {"state": state, "history": history}
        try:
            kept = self._manager.restore(step, args=ocp.args.StandardRestore(wanted))
            # orbax restores an array of another length without a word.
            if _layout(kept) != _layout(wanted):
                raise ValueError("shapes or dtypes differ")
        except Exception as error:
            raise invalid(
                "checkpoint_dir",
                f"a checkpoint in {self._directory}/{step} that cannot be restored ({error})",
                "one of this model, ensemble and number of steps",
                "Delete that folder to start again, or choose another.",
            ) from error
        return step, kept["state"], {name: np.array(v) for name, v in kept["history"].items()}


def _layout(tree: Any) -> list[tuple[tuple[int, ...], Any]]:
    return [(np.shape(leaf), leaf.dtype) for leaf in jax.tree.leaves(tree)]
