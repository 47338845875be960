"""What fit goes on from in a folder, and what it refuses; damage: `test_damage.py`."""

import os
import shutil
import signal
import threading

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
    restore,
)
from rnn_jax.training.fingerprint import differences, fingerprint_of, trace
from tests.helpers import normal
from tests.training import counting

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of a run of 8 steps, kept at 6 and 8."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    run(folder)
    return folder


def test_a_run_goes_on_to_more_steps(tmp_path):
    """Whatever its metrics; the folder does not grow but by the metrics' rows."""
    whole = counting.count(None, 23)
    counting.assert_counted(whole, 23)
    sizes = []
    for steps in (5, 5, 14, 23):
        counting.assert_counted(counting.count(tmp_path, steps), steps)
        files = [f for f in tmp_path.glob("[0-9]*/**/*") if f.is_file()]
        sizes.append(sum(f.stat().st_size for f in files))
        assert (tmp_path / "metrics.rows").stat().st_size == steps * (2 * 8 + 4 + 2)
    assert max(sizes) < 1.05 * min(sizes[1:])
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


def test_the_state_of_a_run_is_restored_alone(trained):
    cell = cells.elman(4, dtype=jnp.float64)
    like = create_train_state(cell.init(jax.random.key(1), 3), ADAM)
    for path in (trained, trained / "8"):
        state = restore(path, like)
        assert isinstance(state, TrainState)
        assert state.step == 8


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


def test_only_the_classes_within_a_state_are_compared():
    """A state of another class with the same leaves goes on, as a TrainState of a new version."""
    state = create_train_state(jnp.ones(3), ADAM)
    program, metrics = trace(lambda state, batch: (state, {"loss": batch}), state, 1.0)
    before = fingerprint_of(program, state, metrics, None, {})
    assert "ScaleByAdamState" in before["classes"]
    earlier = before | {"classes": ["EarlierState", *before["classes"][1:], "NoneType"]}
    assert differences(earlier, before) == []
    other = ["Other" if name == "ScaleByAdamState" else name for name in before["classes"]]
    (named,) = differences(before | {"classes": other}, before)
    assert named.startswith("classes of the state: tuple Other")


def test_thresholds_in_a_chain_are_part_of_a_run(tmp_path):
    chained = lambda clip, rate: optax.chain(clip, optax.sgd(rate))
    for number, clip in enumerate((optax.clip_by_global_norm, optax.clip)):
        folder = tmp_path / str(number)
        run(folder, 1, optimizer=chained(clip(1.0), 0.1))
        with pytest.raises(ValueError, match=r"of clipping: \[.*1.0\] -> \[.*0.5\]"):
            run(folder, 3, optimizer=chained(clip(0.5), 0.1))


def test_an_error_says_it_in_one_sentence(trained, tmp_path, capfd):
    folder = shutil.copytree(trained, tmp_path / "broken")
    for manifest in folder.glob("*/manifest.json"):
        manifest.write_bytes(b"PK\3\4" * 99)
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
            counting.count(folder, 2)
    locked = []

    def second(step, metrics):
        with pytest.raises(BlockingIOError, match="another run is training"):
            counting.count(tmp_path / "used", 20)
        locked.append(step)

    counting.count(tmp_path / "used", 9, recorders=[second])
    assert len(locked) == 3
    counting.assert_counted(counting.count(tmp_path / "used", 10), 10)


def test_ctrl_c_keeps_the_last_step(tmp_path):
    """A signal in the middle of a step, and an exception in a batch; no step is taken twice."""
    main = threading.main_thread().ident

    def interrupted(i):
        if i == 6:
            signal.pthread_kill(main, signal.SIGINT)
        return float(i)

    # A shell that starts the tests in the background has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            counting.count(tmp_path, 20, interrupted)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "7").is_dir()

    def broken(i):
        if i == 13:
            raise RuntimeError("no more data")
        return float(i)

    with pytest.raises(RuntimeError, match="no more data"):
        counting.count(tmp_path, 20, broken)
    assert (tmp_path / "13").is_dir()
    counting.assert_counted(counting.count(tmp_path, 20), 20)


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
        {"hooks": 3},
        {"show": "mse"},
        {"show": ["nothing"]},
        {"keep": 0},
        {"held_out": counting.START},
        {"checkpoint_dir": 3},
        {"config": 3},
        {"config": {"a": {1: {2}, "b": float}}, "works": True},
    ],
    ids=" ".join,
)
def test_bad_arguments_of_fit_are_named(arguments, tmp_path):
    arguments = dict(arguments)
    works = arguments.pop("works", False)
    given = {
        "train_step": counting.counting,
        "batch_at": float,
        "steps": 2,
        "progress": False,
        **arguments,
    }
    call = lambda: fit(given.pop("train_step"), counting.START, given.pop("batch_at"), **given)
    if works:
        call()
        return
    (named,) = arguments
    with pytest.raises(ValueError, match=rf"^{named}: got .*; expected"):
        call()


def test_names_of_steps_as_numpy_has_them(tmp_path):
    counting.assert_counted(counting.count(tmp_path, np.int64(3), checkpoint_every=np.int32(2)), 3)
    assert os.path.isdir(tmp_path / "3")
