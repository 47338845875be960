"""What recorders keep of a run, on disk and in TensorBoard, over kills and full disks."""

import errno
import shutil
import struct

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from rnn_jax.plotting import telemetry as telemetry_figure
from rnn_jax.training import fit, read_record, to_disk, to_tensorboard
from tests.training.counting import FullDisk, assert_counted, count
from tests.training.monitored import ELMAN, T, batch_at, programs

pytestmark = pytest.mark.usefixtures("optax_promotes")


def test_a_killed_run_leaves_and_resumes_its_record(tmp_path):
    """Memory, disk and TensorBoard have each step once, though some were taken twice."""
    monitored, state, _, _ = programs(ELMAN, every=2)
    _, history = fit(monitored, state, batch_at, 17, progress=False)

    def arguments():
        recorders = (to_disk(tmp_path / "record", 17), to_tensorboard(tmp_path / "events"))
        kept = {"checkpoint_dir": tmp_path / "kept", "checkpoint_every": 6}
        return {"recorders": recorders, "progress": False, **kept}

    def killed_at_11(step):
        if step == 11:
            raise KeyboardInterrupt
        return batch_at(step)

    recorders = arguments()
    with pytest.raises(KeyboardInterrupt):
        fit(monitored, state, killed_at_11, 17, **recorders)
    cut = read_record(tmp_path / "record")
    known = np.where(np.arange(17) < 11, history["loss"], np.nan)
    np.testing.assert_array_equal(cut["loss"], known)
    shutil.rmtree(tmp_path / "kept" / "11")  # as if it had been killed before that was kept

    _, resumed = fit(monitored, state, batch_at, 17, **arguments())
    chex.assert_trees_all_equal(resumed, history)
    chex.assert_trees_all_equal(read_record(tmp_path / "record"), history)
    scalars, histograms = events(tmp_path / "events")
    for name in ("loss", "grad_norm", "clipped", "spectral_radius/W", "omega"):
        measured = {i: v for i, v in enumerate(history[name]) if not np.isnan(v)}
        assert scalars[name].keys() == measured.keys()
        np.testing.assert_allclose([*scalars[name].values()], [*measured.values()], rtol=1e-6)
    assert set(scalars["horizon"]) <= set(range(0, 17, 2))
    assert {step: scalars[f"state_log_norms/{T - 1}"][step] for step in (0, 16)} == pytest.approx(
        {step: history["state_log_norms"][step, T - 1] for step in (0, 16)}, rel=1e-6
    )
    assert not histograms

    another_run = r"folder: got .*npy, of another run, float64\[17.*; expected float64\[16"
    with pytest.raises(ValueError, match=another_run):
        to_disk(tmp_path / "record", 16)(0, {name: values[:9] for name, values in history.items()})
    with pytest.raises(ValueError, match="steps: got 5, for step 16; expected"):
        to_disk(tmp_path / "short", 5)(0, history)
    with pytest.raises(FileNotFoundError, match="folder: got"):
        read_record(tmp_path / "nothing")

    figure = telemetry_figure(history, clip_norm=1.0)
    assert isinstance(figure, Figure)
    shown = figure.axes[2].collections[0].get_array()
    np.testing.assert_allclose(shown, history["state_log_norms"][::2].T / np.log(10))
    with pytest.raises(ValueError, match=r"record: got .*state_log_norms"):
        telemetry_figure({name: values[:, None] for name, values in history.items()})


def test_long_profiles_are_histograms_in_tensorboard(tmp_path):
    record = to_tensorboard(tmp_path)
    profile = np.array([[-np.inf, *np.linspace(-20, 0, 50)], np.full(51, np.nan)])
    record(7, {"state_log_norms": profile, "gates": np.array([[1.0, 2.0], [3.0, np.nan]])})
    scalars, histograms = events(tmp_path)
    assert scalars == {"gates/0": {7: 1, 8: 3}, "gates/1": {7: 2}}
    assert histograms.keys() == {("state_log_norms", 7)}
    kept = histograms["state_log_norms", 7]
    assert (kept.num, kept.min, kept.max) == (50, -20, 0)
    np.testing.assert_allclose(kept.sum, -500)


def test_tensorboard_shows_one_step_in_so_many(tmp_path):
    """Whatever blocks the steps come in."""
    record = to_tensorboard(tmp_path, every=4)
    loss = np.arange(30.0)
    for begin, end in ((3, 4), (4, 13), (13, 16), (16, 17), (17, 30)):
        record(begin, {"loss": loss[begin:end]})
        record(end - 1, {"held_out/loss": loss[end - 1 : end]})  # evaluations come with any step
    scalars, _ = events(tmp_path)
    assert scalars == {
        "loss": {step: step for step in (4, 8, 12, 16, 20, 24, 28)},
        "held_out/loss": {step: step for step in (3, 12, 15, 16, 29)},
    }
    with pytest.raises(ValueError, match="every: got int 0; expected"):
        to_tensorboard(tmp_path, every=0)


def events(folder):
    """What TensorBoard shows: `({name: {step: value}}, {(name, step): histogram})`."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, histograms = {}, {}
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:  # records: length, its checksum, an event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.HasField("session_log"):
                beyond = lambda step, start=event.step: step >= start
                scalars = {
                    name: {s: v for s, v in curve.items() if not beyond(s)}
                    for name, curve in scalars.items()
                }
            for value in event.summary.value:
                if value.HasField("histo"):
                    histograms[value.tag, event.step] = value.histo
                else:
                    assert event.step not in scalars.setdefault(value.tag, {})
                    scalars[value.tag][event.step] = value.simple_value
    return scalars, histograms


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    """And the state is kept; once there is room, nothing is missing of the record."""
    steps = 3000
    kept = {"recorders": [to_disk(tmp_path / "record", steps)], "checkpoint_every": 50}
    with pytest.raises(OSError, match=r"record/mse\.npy") as error, FullDisk(20_000):
        count(tmp_path / "kept", 40, **kept)
    assert error.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert not [*(tmp_path / "record").glob("**/.*")]
    assert (tmp_path / "kept" / "10").is_dir()
    assert_counted(count(tmp_path / "kept", 40, **kept), 40)
    record = read_record(tmp_path / "record")
    assert record.keys() == {"mse", "parts/n", "parts/half/0"}
    for name, values in record.items():
        assert np.isfinite(values[:40]).all(), name
        assert np.isnan(values[40:]).all()
    # A full disk under the checkpoints themselves.
    with pytest.raises(OSError, match=str(tmp_path / "none")), FullDisk(500):
        count(tmp_path / "none", 5)
    assert_counted(count(tmp_path / "none", 5), 5)


def test_records_of_every_dtype(tmp_path):
    metrics = {
        "int": np.arange(3, dtype=np.int32),
        "bool": np.array([True, False, True]),
        "half": np.arange(3, dtype=np.float16),
        "bfloat": np.arange(3).astype(jnp.bfloat16),
        "complex": np.arange(3) * 1j,
        "wide": np.arange(6.0).reshape(3, 2),
    }
    to_disk(tmp_path, 5)(2, metrics)
    to_disk(tmp_path, 7)(4, {name: values[:1] for name, values in metrics.items()})
    record = read_record(tmp_path)
    for name, values in metrics.items():
        np.testing.assert_array_equal(record[name][2:5], [*values[:2], values[0]])
        assert np.isnan(record[name][[0, 1, 5, 6]]).all()
    for bad, named in (
        ({"int": np.array([2**60 + 1])}, "metrics"),
        ({"wide": np.ones((1, 3))}, "folder"),
        ({"../out": np.ones(1)}, "metrics"),
        ({"text": np.array(["a"])}, "metrics"),
    ):
        with pytest.raises(ValueError, match=rf"^{named}: got .*; expected"):
            to_disk(tmp_path, 7)(0, bad)
    (tmp_path / "int.npy").write_bytes(b"nothing")
    for call in (lambda: read_record(tmp_path), lambda: to_disk(tmp_path, 7)(0, metrics)):
        with pytest.raises(ValueError, match=r"^folder: got .*int.npy"):
            call()
