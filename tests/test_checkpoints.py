"""What fit leaves in a folder: what it goes on from, what it refuses, and what damage does."""

import errno
import os
import resource
import shutil
import signal
import threading
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnn_jax
from rnn_jax import cells, losses
from rnn_jax.training import (
    TrainState,
    batch_mesh,
    create_train_state,
    fit,
    make_train_step,
    over_ensemble,
    read_record,
    restore,
    save,
    to_disk,
)
from tests.helpers import normal

pytestmark = pytest.mark.usefixtures("optax_promotes")

XS, TARGETS = normal(1, 4, 4, 3), normal(2, 4, 4, 4)
ADAM = optax.adam(1e-2)


def run(folder, steps=8, *, every=3, cell=None, optimizer=ADAM, loss=losses.squared_error, **how):
    """Train on noise, and keep all in `folder`."""
    cell = cells.elman(4, dtype=jnp.float64) if cell is None else cell
    dtype = jax.eval_shape(lambda: cell.init(jax.random.key(0), 3)).W.dtype
    clip_norm, mesh = how.pop("clip_norm", 1.0), how.pop("mesh", None)

    def mean(params, batch):
        xs, targets = batch
        return losses.per_step(loss, rnn_jax.unroll(cell, params, xs)[1], targets).mean()

    step = jax.jit(make_train_step(mean, optimizer, clip_norm=clip_norm, mesh=mesh))
    state = create_train_state(cell.init(jax.random.key(0), 3), optimizer)
    batch = lambda i: ((XS + i).astype(dtype), TARGETS.astype(dtype))
    return fit(
        step, state, batch, steps, progress=False, checkpoint_dir=folder,
        checkpoint_every=every, **how
    )  # fmt: skip


def counting(state, batch):
    """A train step that costs nothing to compile: metrics of other names, dtypes, nested."""
    after = {"n": state["n"] + 1, "key": jax.random.split(state["key"])[0]}
    halves = (after["n"] / 2).astype(jnp.bfloat16)
    return after, {"mse": batch * jnp.ones(2), "parts": {"n": after["n"], "half": [halves]}}


START = {"n": jnp.zeros((), jnp.int32), "key": jax.random.key(7)}


def count(folder, steps, batch_at=float, **how):
    how = {"checkpoint_every": 4, "progress": False, **how}
    return fit(counting, START, batch_at, steps, checkpoint_dir=folder, **how)


def assert_counted(returned, steps):
    """The state and the metrics of a run of `counting`."""
    state, metrics = returned
    assert state["n"] == steps
    key = START["key"]
    for _ in range(steps):
        key = jax.random.split(key)[0]
    assert (jax.random.key_data(state["key"]) == jax.random.key_data(key)).all()
    np.testing.assert_array_equal(metrics["mse"], np.repeat(np.arange(steps)[:, None], 2, 1))
    np.testing.assert_array_equal(metrics["parts"]["n"], np.arange(1, steps + 1))
    halves = metrics["parts"]["half"][0]
    assert halves.dtype == jnp.bfloat16
    np.testing.assert_array_equal(halves.astype(float), np.arange(1, steps + 1) / 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of a run of 8 steps, kept at 6 and 8."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    run(folder)
    return folder


def test_a_run_goes_on_to_more_steps(tmp_path):
    """Whatever its metrics; the folder does not grow but by the metrics' rows."""
    whole = count(None, 23)
    assert_counted(whole, 23)
    sizes = []
    for steps in (5, 5, 14, 23):
        assert_counted(count(tmp_path, steps), steps)
        sizes.append(sum(f.stat().st_size for f in tmp_path.glob("*/state.npz")))
        assert (tmp_path / "metrics.rows").stat().st_size == steps * (2 * 8 + 4 + 2)
    assert max(sizes) < 1.05 * min(sizes)
    assert {path.name for path in tmp_path.iterdir()} == {"20", "23", "metrics.rows", "lock"}


@pytest.mark.parametrize("shared", ["ensemble", "mesh"])
def test_a_run_resumes_on_the_devices_that_it_is_given(shared, tmp_path):
    """Two of them, and not where the arrays happened to be when they were written."""
    cell = cells.elman(3, dtype=jnp.float64)
    loss = lambda p, b: jnp.square(rnn_jax.unroll(cell, p, b)[1]).mean()
    mesh = None if shared == "ensemble" else batch_mesh()
    step, batch = make_train_step(loss, ADAM, mesh=mesh), XS
    init = lambda key: create_train_state(cell.init(key, 3), ADAM)
    step, state = jax.jit(step), init(jax.random.key(0))
    if shared == "ensemble":
        step, batch = over_ensemble(make_train_step(loss, ADAM), 2), jnp.stack([XS, -XS])
        state = jax.vmap(init)(jax.random.split(jax.random.key(0), 2))
    go = lambda state, steps, folder: fit(
        step, state, lambda i: batch * i, steps, progress=False, checkpoint_dir=folder
    )
    whole = go(state, 5, None)
    go(state, 3, tmp_path)
    chex.assert_trees_all_equal(go(state, 5, tmp_path), whole)
    # A state that was put somewhere is restored there.
    second = jax.device_put(state, jax.devices()[1])
    kept = restore(tmp_path, second)
    assert all(leaf.devices() == {jax.devices()[1]} for leaf in jax.tree.leaves(kept))


SAME_SHAPES = {
    "yogi for adam": ({"optimizer": optax.yogi(1e-2)}, r"optimizer.* sign float64: none -> 3"),
    "adamw for adam": ({"optimizer": optax.adamw(1e-2)}, "classes of the state: .*EmptyState"),
    "nadam for adam": ({"optimizer": optax.nadam(1e-2)}, "optimizer, operations"),
    "sgd for adam": ({"optimizer": optax.sgd(1e-2)}, r"opt_state/0/mu/W: float64\[4, 4\] -> none"),
    "another clip": ({"clip_norm": 0.5}, r"clip_norm: 1.0 -> 0.5"),
    "no clip": ({"clip_norm": None}, r"clip_norm: 1.0 -> none"),
    "irnn for elman": ({"cell": cells.irnn(4, dtype=jnp.float64)}, "tanh float64: .* -> none"),
    "other sizes": ({"cell": cells.elman(6, dtype=jnp.float64)}, r"params/W: float64\[4, 4\] -> "),
    "other precision": ({"cell": cells.elman(4)}, r"params/W: float64\[4, 4\] -> float32"),
    "another loss": ({"loss": losses.bernoulli_cross_entropy}, "loss, operations"),
    "weighted loss": ({"loss": lambda y, t: 0.3 * losses.squared_error(y, t)}, r"\[\] -> \[0.3\]"),
    "config": ({"config": {"text": "b.txt"}}, "config text: none -> b.txt"),
}


@pytest.mark.parametrize("name", SAME_SHAPES)
def test_a_checkpoint_of_another_run_is_refused_by_name(name, trained):
    arguments, named = SAME_SHAPES[name]
    if "cell" in arguments and name.endswith(("sizes", "precision")):
        arguments["loss"] = lambda y, t: jnp.square(y).sum(-1)
    message = rf"checkpoint_dir: got .*8, a checkpoint of another run: .*{named}.*; expected"
    with pytest.raises(ValueError, match=message):
        run(trained, 9, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": optax.adam(1e-4)},
        {"optimizer": optax.adam(1e-2, b1=0.8)},
        {"mesh": batch_mesh()},
        {"every": 1, "label": "again"},
    ],
    ids=["learning rate", "decay", "devices", "intervals"],
)
def test_what_may_change_may_change(arguments, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "again")
    assert run(folder, 9, **arguments)[1]["loss"].shape == (9,)


def test_thresholds_in_a_chain_are_part_of_a_run(tmp_path):
    chained = lambda clip, rate: optax.chain(clip, optax.sgd(rate))
    for number, clip in enumerate((optax.clip_by_global_norm, optax.clip)):
        folder = tmp_path / str(number)
        run(folder, 1, optimizer=chained(clip(1.0), 0.1))
        with pytest.raises(ValueError, match=r"of clipping: \[.*1.0\] -> \[.*0.5\]"):
            run(folder, 3, optimizer=chained(clip(0.5), 0.1))


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
        how = ("cut", "bit", "bit", "zeros", "longer", "gone")[trial % 6]
        damage(folder / "11" / "state.npz", how, rng)
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


def test_an_error_says_it_in_one_sentence(trained, tmp_path, capfd):
    folder = shutil.copytree(trained, tmp_path / "broken")
    for state in folder.glob("*/state.npz"):
        state.write_bytes(b"PK\3\4" * 99)
    with pytest.raises(ValueError, match="Delete that folder") as error:
        run(folder, 9)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_a_file_and_one_that_is_used(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a folder")
    for folder in (file, file / "below"):
        with pytest.raises(NotADirectoryError, match=f"got {folder}"):
            count(folder, 2)
    locked = []

    def second(step, metrics):
        with pytest.raises(BlockingIOError, match="another run is training"):
            count(tmp_path / "used", 20)
        locked.append(step)

    count(tmp_path / "used", 9, recorders=[second])
    assert len(locked) == 3
    assert_counted(count(tmp_path / "used", 10), 10)


def test_ctrl_c_keeps_the_last_step(tmp_path):
    """A signal in the middle of a step, and an exception in a batch; no step is taken twice."""
    main = threading.main_thread().ident

    def interrupted(i):
        if i == 6:
            signal.pthread_kill(main, signal.SIGINT)
        return float(i)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        count(tmp_path, 20, interrupted)
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "7").is_dir()

    def broken(i):
        if i == 13:
            raise RuntimeError("no more data")
        return float(i)

    with pytest.raises(RuntimeError, match="no more data"):
        count(tmp_path, 20, broken)
    assert (tmp_path / "13").is_dir()
    assert_counted(count(tmp_path, 20), 20)


class _FullDisk:
    """No file may grow beyond `size` bytes."""

    def __init__(self, size):
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._size = size

    def __enter__(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._limits[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    """And the state is kept; once there is room, nothing is missing of the record."""
    steps = 3000
    kept = {"recorders": [to_disk(tmp_path / "record", steps)], "checkpoint_every": 50}
    with pytest.raises(OSError, match=r"record/mse\.npy") as error, _FullDisk(20_000):
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
    with pytest.raises(OSError, match=str(tmp_path / "none")), _FullDisk(500):
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


def tree():
    return {
        "params": cells.readout(cells.lstm(3), 2).init(jax.random.key(0), 2),
        "bfloat": jnp.asarray([1.5, jnp.nan], jnp.bfloat16),
        "key": jax.random.split(jax.random.key(3, impl="rbg"), 2),
        "numbers": (3, True, 0.1),
        "numpy": np.arange(4, dtype=np.int8),
        "empty": jnp.zeros((0, 3)),
        "complex": jnp.asarray(1 + 2j),
    }


def as_plain(tree):
    is_key = lambda leaf: jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)
    plain = lambda leaf: np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    return jax.tree.map(plain, tree)


def test_saved_trees_come_back_bit_for_bit(tmp_path):
    file = tmp_path / "deep" / "net.npz"
    save(file, tree())
    back = restore(file, tree())
    chex.assert_trees_all_equal(as_plain(back), as_plain(tree()))
    assert [type(n) for n in back["numbers"]] == [int, bool, float]
    assert type(back["numpy"]) is np.ndarray
    assert jax.random.key_impl(back["key"]) == "rbg"
    with np.load(file) as plain:  # without this library
        np.testing.assert_array_equal(plain["leaf/params/V"], tree()["params"].V)

    with pytest.raises(FileExistsError, match="overwrite=True"):
        save(file, {"W": jnp.ones(3)})
    save(file, {"W": jnp.ones(3)}, overwrite=True)
    shapes = jax.eval_shape(lambda: {"W": jnp.ones(3)})
    np.testing.assert_array_equal(restore(file, shapes)["W"], np.ones(3))
    assert [path.name for path in file.parent.iterdir()] == ["net.npz"]

    with _FullDisk(100), pytest.raises(OSError, match=r"net\.npz"):
        save(file, {"W": jnp.zeros(99)}, overwrite=True)
    np.testing.assert_array_equal(restore(file, shapes)["W"], np.ones(3))


def test_what_cannot_be_saved_or_restored_is_named(tmp_path, trained):
    file = tmp_path / "net.npz"
    save(file, {"W": jnp.ones(3)})
    (tmp_path / "text").write_text("not a network")
    for error, call, named in (
        (ValueError, lambda: restore(file, {"W": jnp.ones(4)}), r"like.*W: float64\[3\] -> fl"),
        (ValueError, lambda: restore(file, {"U": jnp.ones(3)}), r"like.*W: float64\[3\] -> none"),
        (ValueError, lambda: restore(file, {"W": jnp.ones(3, jnp.float32)}), "like.*float32"),
        (ValueError, lambda: restore(tmp_path / "text", {}), "path: got .*text"),
        (ValueError, lambda: restore(tmp_path, {}), "path: got .*without checkpoints"),
        (FileNotFoundError, lambda: restore(tmp_path / "no", {}), "path: got .*no"),
        (ValueError, lambda: save(3, {}), "path"),
        (ValueError, lambda: save("", {}), "path"),
        (ValueError, lambda: save(tmp_path / "f", {"f": len}), "tree: got a leaf f"),
        (ValueError, lambda: save(tmp_path / "f", {"t": "text"}), "tree: got a leaf t"),
        (ValueError, lambda: save(tmp_path / "f", {"a": {"b": 1}, "a/b": 2}), "tree: got two"),
        (ValueError, lambda: save(tmp_path / "f", {}, overwrite="no"), "overwrite"),
        (FileExistsError, lambda: save(tmp_path, {}, overwrite=True), "path"),
    ):
        with pytest.raises(error, match=rf"^{named}"):
            call()
    cell = cells.elman(4, dtype=jnp.float64)
    like = create_train_state(cell.init(jax.random.key(1), 3), ADAM)
    for path in (trained, trained / "8", trained / "8" / "state.npz"):
        state = restore(path, like)
        assert isinstance(state, TrainState)
        assert state.step == 8


@pytest.mark.parametrize(
    "arguments",
    [
        {"train_step": None},
        {"train_step": lambda s, b: s},
        {"train_step": lambda s, b: ({**s, "n": s["n"] + 0.5}, {})},
        {"batch_at": 3},
        {"steps": 0},
        {"steps": 2.5},
        {"steps": True},
        {"checkpoint_every": 2.5},
        {"checkpoint_every": -1},
        {"max_skipped": 0},
        {"progress": "no"},
        {"recorders": 3},
        {"recorders": ["a"]},
        {"checkpoint_dir": 3},
        {"config": 3},
        {"config": {"a": {1: {2}, "b": float}}, "works": True},
    ],
    ids=" ".join,
)
def test_bad_arguments_of_fit_are_named(arguments, tmp_path):
    arguments = dict(arguments)
    works = arguments.pop("works", False)
    given = {"train_step": counting, "batch_at": float, "steps": 2, "progress": False, **arguments}
    call = lambda: fit(given.pop("train_step"), START, given.pop("batch_at"), **given)
    if works:
        call()
        return
    (named,) = arguments
    with pytest.raises(ValueError, match=rf"^{named}: got .*; expected"):
        call()


def test_names_of_steps_as_numpy_has_them(tmp_path):
    assert_counted(count(tmp_path, np.int64(3), checkpoint_every=np.int32(2)), 3)
    assert os.path.isdir(tmp_path / "3")
