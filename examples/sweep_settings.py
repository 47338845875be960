r"""
A sweep over settings
=====================

Every combination of the values is a run in a folder of its own; runs that one program can hold
are trained together, a killed sweep goes on where it was, and a finished one takes more values.
On the command line: ``python -m experiments.sweep train --learning-rate 0.003 0.03 --T 8 16
--seeds 2``.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import rnn_jax

sys.path.insert(0, str(Path(rnn_jax.__file__).parents[1]))  # the repository, for its studies
from experiments import sweep

folder = tempfile.TemporaryDirectory()
out = Path(folder.name, "sweep")
settings = "--task adding --T 8 --cell gru --hidden-size 16 --steps 200 --evaluate-every 100"
swept = "--learning-rate 0.001 0.003 0.01 0.03 --seeds 2"
table = sweep.main("train", [*settings.split(), *swept.split(), "--out", str(out)])

# %%
# A folder with a table of all runs, figures, and a run folder for each. The table has a row for
# each run, metric and step; here is the last held-out loss of each run.
print(*sorted(path.name for path in out.iterdir()))
columns = {name: np.array(values) for name, values in table.items()}
last = (columns["metric"] == "held_out_loss") & (columns["step"] == 200)
rates, losses = columns["learning_rate"][last], columns["value"][last]
assert len(losses) == 8
assert losses.min() < 0.1 * losses.max()

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.loglog(rates, losses, "o")
ax.axhline(1 / 6, color="0.5", ls=":", label="without memory, 1/6")
ax.set(xlabel="learning rate", ylabel="held-out loss")
ax.legend(frameon=False)
plt.show()
folder.cleanup()
