"""The recorders of docs/training.md against the packages themselves, without a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TRAIN = """
import jax.numpy as jnp
from tests.examples import document_examples
from rnn_jax.training import HeldOut, fit

(block,) = [e for e in document_examples(ROOT / "docs" / "training.md") if "to_wandb" in e.code]
recorders = {}
block.run(recorders)

def train(recorder):
    step = lambda state, batch: (state + 1, {"loss": 1.0 / (1.0 + state), "parts": jnp.ones(2)})
    held_out = HeldOut(lambda state: {"loss": 0.5 * state}, every=4)
    fit(step, jnp.zeros(()), float, 12, progress=False, recorders=[recorder], held_out=held_out)
"""
WANDB = """
import wandb
run = wandb.init(mode="offline", dir=folder, project="rnn")
train(recorders["to_wandb"](run))
run.finish()
wandb.teardown()  # the process that writes the file ends

from wandb.proto import wandb_internal_pb2

(file,) = Path(folder).rglob("*.wandb")
data, rows = file.read_bytes()[7:], {}  # after a header
while data:  # records, all in one block: checksum, length, kind, content
    length = int.from_bytes(data[4:6], "little")
    record, data = wandb_internal_pb2.Record.FromString(data[7 : 7 + length]), data[7 + length :]
    if record.HasField("history"):
        name = lambda item: item.key or "/".join(item.nested_key)
        items = {name(item): json.loads(item.value_json) for item in record.history.item}
        rows.setdefault(record.history.step.num, {}).update(items)
losses = [rows[n]["loss"] for n in range(12)]
held = {n: row["held_out/loss"] for n, row in rows.items() if "held_out/loss" in row}
"""
MLFLOW = """
import mlflow
mlflow.set_tracking_uri("file:" + folder + "/mlruns")
with mlflow.start_run() as run:
    train(recorders["to_mlflow"](mlflow))
client = mlflow.MlflowClient()
of = lambda name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
losses, held = list(of("loss").values()), of("held_out/loss")
"""
CHECK = """
assert losses == [float(jnp.float32(1.0) / (1.0 + n)) for n in range(12)], losses
assert held == {3: 2.0, 7: 4.0, 11: 6.0}, held
"""


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_a_run_arrives_in_the_service(service, tmp_path):
    begin = "import json\nfrom pathlib import Path\n"
    begin += f"ROOT, folder = Path({str(ROOT)!r}), {str(tmp_path)!r}\n"
    script = begin + TRAIN + {"wandb": WANDB, "mlflow": MLFLOW}[service] + CHECK
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "WANDB_SILENT": "true", "HOME": str(tmp_path),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
