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

import rnn_jax

sys.path.insert(0, str(Path(rnn_jax.__file__).parents[1]))  # the repository, for its studies
from experiments import sweep

folder = tempfile.TemporaryDirectory()
settings = "--task adding --cell gru --hidden-size 16 --steps 200 --evaluate-every 100".split()
swept = "--learning-rate 0.001 0.01 --T 8 16 --seeds 2".split()
table = sweep.main("train", [*settings, *swept, "--out", f"{folder.name}/sweep"])

# %%
# One table of all runs, as Markdown and as data, and one figure.
made = sorted(path.relative_to(folder.name) for path in Path(folder.name).glob("sweep/*"))
print(*made, sep="\n")
print(Path(folder.name, "sweep/summary.md").read_text()[:1500])
folder.cleanup()
