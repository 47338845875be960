"""What damage to checkpoints and their metrics does: it is named, and never believed."""

import contextlib
import errno
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from rnn_jax.training import fit
from tests.training.counting import FullDisk, assert_counted, count


def damage(path, how, rng):
    content = bytearray(path.read_bytes())
    match how:
        case "cut":
            content = content[: rng.integers(len(content))]
        case "bit":
            at = rng.integers(len(content))
            content[at] ^= 1 << rng.integers(8)
        case "zeros":
            at = rng.integers(len(content))
            content[at : at + 512] = bytes(len(content[at : at + 512]))
        case "longer":
            content += b"\0" * 7
        case "gone":
            path.unlink()
            return
    path.write_bytes(bytes(content))


def test_damage_is_never_believed(tmp_path):
    """Seeded damages of the newest state: named, or without effect; the run's end is the same."""
    rng = np.random.default_rng(0)
    count(tmp_path / "sound", 11)
    said = 0
    for trial in range(60):
        folder = shutil.copytree(tmp_path / "sound", tmp_path / str(trial))
        files = sorted(path for path in (folder / "11").rglob("*") if path.is_file())
        how = ("cut", "bit", "bit", "zeros", "longer", "gone")[trial % 6]
        damage(files[trial // 6 % len(files)], how, rng)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert_counted(count(folder, 12), 12)
        of_ours = [str(warning.message) for warning in warned]
        assert len(of_ours) <= 1
        if of_ours:
            said += 1
            assert f"{folder}/11" in of_ours[0]
            assert "goes on from step 8" in of_ours[0]
    assert said > 40


def test_a_full_disk_under_a_state_is_an_error_and_loses_nothing(tmp_path):
    """Where rows still find room: the thread that writes the state says it, to the loop."""
    # One array: of several that fail at once, orbax hears of the second after it has given up.
    state = np.random.default_rng(0).normal(size=5000)
    state[0] = 0
    step = lambda state, batch: (state + np.eye(1, 5000)[0], {"loss": batch})
    go = lambda steps: fit(step, state, float, steps, progress=False,
                           checkpoint_dir=tmp_path, checkpoint_every=3)  # fmt: skip
    go(4)
    with pytest.raises(OSError, match=f"{tmp_path}/6") as error, FullDisk(9000):
        go(20)
    assert {path.name for path in tmp_path.glob("[0-9.]*")} == {"3", "4"}
    assert error.value.errno in (errno.EFBIG, errno.ENOSPC)
    end, metrics = go(20)
    assert end[0] == 20
    np.testing.assert_array_equal(metrics["loss"], np.arange(20))


@contextlib.contextmanager
def nobody():
    """Files as another user than root sees them, who may write anywhere."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


def test_a_folder_that_may_not_be_written_is_named():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count(folder, 4)
        for read_only, writable in ((0o555, 0o755), (0o755, 0o755)):
            folder.chmod(read_only)
            (folder / "lock").chmod(0o444)
            with nobody(), pytest.raises(PermissionError, match=name):
                count(folder, 9)
            folder.chmod(writable)
            (folder / "lock").chmod(0o644)
        assert_counted(count(folder, 9), 9)


def test_damaged_metrics_are_refused(tmp_path):
    for how in ("cut", "bit", "gone"):
        folder = tmp_path / how
        count(folder, 9)
        damage(folder / "metrics.rows", how, np.random.default_rng(1))
        with pytest.raises(ValueError, match=r"checkpoint_dir: got no .*metrics\.rows"):
            count(folder, 10)


def test_strays_and_renamed_folders(tmp_path):
    count(tmp_path, 9)
    (tmp_path / "50").mkdir()
    (tmp_path / "notes").mkdir()
    with pytest.warns(RuntimeWarning, match=r"cannot read .*50 .*; training goes on from step 9"):
        assert_counted(count(tmp_path, 10), 10)
    (tmp_path / "50").rmdir()
    (tmp_path / "10").rename(tmp_path / "60")
    with pytest.warns(RuntimeWarning, match=r"60 .*is that of step 10.* goes on from step 9"):
        assert_counted(count(tmp_path, 11), 11)
    for folder in ("60", "9"):
        shutil.rmtree(tmp_path / folder)
    (tmp_path / "11").rename(tmp_path / "10")
    with pytest.raises(ValueError, match=r"no checkpoint that can be read: .*is that of step 11"):
        count(tmp_path, 12)
    shutil.rmtree(tmp_path / "10")
    (tmp_path / "40").mkdir()
    with pytest.warns(RuntimeWarning, match="starts from the beginning"):
        assert_counted(count(tmp_path, 3), 3)
