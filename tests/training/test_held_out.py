"""Evaluation while `fit` trains: when, the best state, when to stop, and all of it after a kill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.training import HeldOut, fit, read_record, restore, to_disk

STEPS = 23


def step(state, batch):
    """A train step whose state is its number and what it was given last."""
    after = {"n": state["n"] + 1, "last": state["last"] * 0 + batch}
    return after, {"loss": jnp.float32(batch)}


def start(*lead):
    return {"n": jnp.zeros(lead, jnp.int32), "last": jnp.full((*lead, 2), -1.0)}


def loss_of(state):
    """A loss that is lowest at 12 of the steps that 4 divides, and nowhere before 8."""
    n = state["n"].astype(float)
    return {"loss": jnp.where(n < 8, jnp.nan, jnp.abs(n - 11.0)), "twice": [2 * n]}


def train(folder, steps=STEPS, *, every=4, stop_when=None, evaluate=loss_of, state=None, **how):
    held_out = HeldOut(evaluate, every=every, stop_when=stop_when)
    how = {"progress": False, "checkpoint_every": 5, **how}
    state = start() if state is None else state
    return fit(
        how.pop("train_step", step), state, how.pop("batch_at", float), steps,
        held_out=held_out, checkpoint_dir=folder, **how,
    )  # fmt: skip


def assert_evaluated(metrics, at):
    held_out = metrics["held_out"]
    np.testing.assert_array_equal(held_out["step"], at)
    np.testing.assert_array_equal(held_out["twice"][0], 2.0 * np.array(at))
    known = np.array(at) >= 8
    assert np.isnan(held_out["loss"][~known]).all()
    np.testing.assert_array_equal(held_out["loss"][known], np.abs(np.array(at)[known] - 11.0))


def test_the_first_the_due_and_the_last_state_are_evaluated(tmp_path):
    state, metrics = train(tmp_path)
    assert state["n"] == STEPS
    assert metrics["loss"].shape == (STEPS,)
    assert_evaluated(metrics, [0, 4, 8, 12, 16, 20, 23])
    best = restore(tmp_path, start(), best=True)
    assert best["n"] == 12
    np.testing.assert_array_equal(best["last"], 11.0)
    assert restore(tmp_path, start())["n"] == STEPS


@pytest.mark.parametrize("how", ["hook", "recorder", "evaluation"])
def test_an_error_anywhere_loses_no_evaluation(how, tmp_path):
    """Raised at every step and evaluation in turn; the end and the record are the same."""
    whole, whole_record = train(None), {}
    for broken_at in (3, 4, 8, 11, 12, 20, 23):
        folder, broken = tmp_path / str(broken_at), [True]

        def once(n, at=broken_at, broken=broken):
            if n == at and broken.pop() if broken else False:
                raise RuntimeError("broken")

        def evaluate(state, once=once):
            once(int(state["n"]) if how == "evaluation" else -1)
            return loss_of(state)

        def record(begin, metrics, once=once):
            if how == "recorder" and "held_out/loss" in metrics:
                once(begin + 1)

        hook = lambda n, state, once=once: once(n) if how == "hook" else None
        kept = {"hooks": [hook], "recorders": [record, to_disk(folder / "record", STEPS)]}
        expected = how == "hook" or broken_at in (4, 8, 12, 20, 23)
        if expected:
            with pytest.raises(RuntimeError, match="broken"):
                train(folder / "kept", evaluate=evaluate, **kept)
        resumed = train(folder / "kept", evaluate=evaluate, **kept)
        jax.tree.map(np.testing.assert_array_equal, resumed, whole)
        assert restore(folder / "kept", start(), best=True)["n"] == 12
        record = read_record(folder / "record")
        whole_record = whole_record or record
        jax.tree.map(np.testing.assert_array_equal, record, whole_record)
    assert [*np.flatnonzero(~np.isnan(record["held_out/loss"])) + 1] == [8, 12, 16, 20, 23]


def test_the_best_of_an_ensemble_is_each_members_own(tmp_path):
    """Each member is lowest at another step; one is NaN always, and keeps its first state."""
    lowest = jnp.array([4.0, 8.0, 20.0, jnp.nan])
    members = lambda state: {"loss": jnp.abs(state["n"].astype(float) - lowest)}
    batches = lambda i: i * jnp.arange(1.0, 5.0)[:, None]
    vmapped = lambda state, batch: (
        {"n": state["n"] + 1, "last": 0 * state["last"] + batch},
        {"loss": batch[:, 0]},
    )
    how = {"train_step": vmapped, "batch_at": batches, "state": start(4), "evaluate": members}
    train(tmp_path / "a", 10, **how)
    for folder in (tmp_path / "a", tmp_path / "b"):
        train(folder, STEPS, **how)
    bests = [restore(tmp_path / name, start(4), best=True) for name in "ab"]
    jax.tree.map(np.testing.assert_array_equal, *bests)
    np.testing.assert_array_equal(bests[0]["n"], [4, 8, 20, 0])
    np.testing.assert_array_equal(bests[0]["last"][:, 0], [3, 14, 57, -1])


def test_training_stops_where_it_is_told_to(tmp_path):
    """And goes on to no step more when it is started again."""
    near = lambda metrics: metrics["loss"] <= 1
    for _ in range(2):
        state, metrics = train(tmp_path, stop_when=near)
        assert state["n"] == 12
        assert_evaluated(metrics, [0, 4, 8, 12])
        assert metrics["loss"].shape == (12,)
    state, metrics = train(tmp_path)
    assert state["n"] == STEPS
    at_once, metrics = train(None, stop_when=lambda metrics: True)
    assert at_once["n"] == 0
    assert metrics["loss"].shape == (0,)


def test_a_criterion_that_reads_no_metric_is_told_their_names():
    with pytest.raises(ValueError, match=r"^stop_when: got .*'acc'; expected some of loss, st"):
        train(None, stop_when=lambda metrics: metrics["acc"] > 1)


def test_a_run_that_is_over_before_it_begins_is_kept_all_the_same(tmp_path):
    for _ in range(2):
        state, metrics = train(tmp_path, stop_when=lambda metrics: True)
        assert_evaluated(metrics, [0])
        for best in (False, True):
            np.testing.assert_array_equal(
                restore(tmp_path, start(), best=best)["last"], state["last"]
            )
        assert (tmp_path / "0").is_dir()
    on, metrics = train(tmp_path)
    through, expected = train(None)
    np.testing.assert_array_equal(on["last"], through["last"])
    np.testing.assert_array_equal(metrics["held_out"]["loss"], expected["held_out"]["loss"])


def test_the_best_state_outlives_donated_buffers(tmp_path):
    donating = jax.jit(step, donate_argnums=0)
    train(tmp_path, train_step=donating, state=jax.tree.map(jnp.copy, start()))
    assert restore(tmp_path, start(), best=True)["n"] == 12


def test_hooks_see_every_state():
    seen = []
    fit(step, start(), float, 5, progress=False, hooks=[lambda n, s: seen.append((n, int(s["n"])))])
    assert seen == [(n, n) for n in range(1, 6)]


def test_evaluations_of_another_kind_are_refused(tmp_path):
    for evaluate, named in (
        (lambda state: 3.0, "evaluate"),
        (lambda state: {"mse": 3.0}, "evaluate"),
        (lambda state: {"loss": 3}, "evaluate"),
        (lambda state: {"loss": jnp.ones(2)}, "evaluate"),
        (lambda state: {"loss": 3.0, "step": 1}, "evaluate"),
    ):
        with pytest.raises(ValueError, match=rf"^{named}: got .*; expected"):
            train(tmp_path, evaluate=evaluate)
    for train_step in (lambda s, b: (s, b), lambda s, b: (s, {"held_out": b})):
        with pytest.raises(ValueError, match=r"^train_step: got .*; expected"):
            train(tmp_path, train_step=train_step)
    assert not [*tmp_path.iterdir()]
    fit(step, start(), float, 2, progress=False, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"^best: got True for .*; expected a run with eval"):
        restore(tmp_path, start(), best=True)
    with pytest.raises(ValueError, match=r"another run: held-out .*best_by: none -> loss"):
        train(tmp_path)


def test_an_evaluation_may_change_its_interval_but_not_its_kind(tmp_path):
    train(tmp_path, 10)
    _, metrics = train(tmp_path, every=7)
    assert_evaluated(metrics, [0, 4, 8, 10, 14, 21, 23])
    with pytest.raises(ValueError, match=r"held-out solved: none -> float32\[\]"):
        train(tmp_path, 30, evaluate=lambda s: {**loss_of(s), "solved": jnp.float32(0)})
