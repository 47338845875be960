"""The study at toy size: what it compares, what it leaves, that it redraws, that it resumes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from experiments import parameter_sharing
from experiments.common.checks import checks_table
from experiments.common.numbers import flatten, nest
from experiments.common.run_folder import RunFolder, redraw
from experiments.parameter_sharing import ARMS, Config, Learner, main, position_specific, recurrent
from rnn_jax.tasks import year_sentences

# One worker, so that the toy study runs once.
pytestmark = [pytest.mark.usefixtures("optax_promotes"), pytest.mark.xdist_group("sharing")]

TOY = {
    "years": 5,
    "sizes": (4, 12),
    "seeds": 2,
    "hidden_size": 6,
    "steps": 40,
    "batch_size": 4,
    "test_sentences": 6,
    "learning_rate": 0.03,
}
HELD_OUT = [7, 8, 9, 10]


@pytest.fixture(scope="module")
def templates():
    return year_sentences(range(2015, 2020))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, optax_promotes):
    out = tmp_path_factory.mktemp("runs") / "toy"
    return out, main(Config(out=out, **TOY))


def some_sentences(make, templates):
    learner = Learner(make(Config(**TOY), templates), "", templates, (9,))
    return learner, jax.jit(learner.sentences)(jax.random.key(3), jnp.arange(9))


def test_position_specific_is_its_equation(templates):
    learner, sentences = some_sentences(position_specific, templates)
    p = learner.network.init(jax.random.key(0))
    assert p.U.shape == (20, 6, templates.input_size)
    for example, logits in enumerate(learner.logits(p, sentences)):
        a = np.asarray(p.b)
        for t in range(sentences.length[example]):
            a = a + np.asarray(p.U)[t, :, sentences.symbols[example, t] - 1]
        np.testing.assert_allclose(logits, p.c + p.V @ np.tanh(a), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["GRU", "LSTM", "Elman"])
def test_recurrent_answers_after_the_last_word(templates, cell):
    make = lambda config, templates: recurrent(Config(**TOY, cell=cell), templates)
    learner, sentences = some_sentences(make, templates)
    params = learner.network.init(jax.random.key(0))
    make_cell = {"GRU": rnn_jax.cells.gru, "LSTM": rnn_jax.cells.lstm, "Elman": rnn_jax.cells.elman}
    cell = rnn_jax.cells.readout(make_cell[cell](6), 5)
    for example, logits in enumerate(learner.logits(params, sentences)[:3]):
        xs = templates.one_hot(sentences.symbols[example, : sentences.length[example]])
        _, ys = rnn_jax.unroll(cell, params, xs)
        np.testing.assert_allclose(logits, ys[-1], rtol=1e-5, atol=1e-6)


def test_held_out_weights_are_never_trained(templates):
    """Why the position-specific network can only guess there: dE/dU_t is zero for all numbers."""
    learner, sentences = some_sentences(position_specific, templates.no_number_in(HELD_OUT))
    params = learner.network.init(jax.random.key(0))
    U = jnp.abs(jax.jit(jax.grad(learner.loss))(params, sentences).U).max(1)  # [T, I]
    assert (U[jnp.array(HELD_OUT), :5] == 0).all()
    assert (U[11:, :5] > 0).any()
    assert (U[jnp.array(HELD_OUT), 5:] > 0).any()


def test_a_set_is_the_beginning_of_a_larger_one(templates):
    learner, sentences = some_sentences(recurrent, templates)
    draw = jax.jit(learner.sentences)
    fewer = draw(jax.random.key(3), jnp.arange(4))
    for few, many in zip(fewer, sentences, strict=True):
        np.testing.assert_array_equal(few, many[:4])
    other = draw(jax.random.key(4), jnp.arange(9))
    assert (other.symbols != sentences.symbols).any(1).all()


def test_the_run_folder(finished):
    out, nested = finished
    result = flatten(nested)
    record = json.loads((out / "config.json").read_text())
    assert record["config"]["hidden_size"] == 6
    assert record["inputs"][f"templates, {ARMS[0]}"] > record["inputs"][f"templates, {ARMS[1]}"]
    summary = (out / "summary.md").read_text()
    assert "Chance is 20.0 %" in summary
    for label in ("recurrent (GRU)", "position-specific"):
        assert label in summary
        for arm, sizes in zip(ARMS, (2, 1), strict=True):
            assert result[f"{label}/{arm}/accuracy"].shape == (sizes, 2, 19)
            assert result[f"{label}/{arm}/training_accuracy"].shape == (sizes, 2)
            assert result[f"{label}/{arm}/training_loss"].shape == (sizes, 2, 40)
        four_sentences = result[f"{label}/{ARMS[0]}/training_loss"][0]
        assert (four_sentences[:, -5:].mean(-1) < four_sentences[:, :5].mean(-1) / 2).all()
    assert result["position-specific/parameters"] == 20 * 6 * 83 + 6 + 5 * 6 + 5
    assert not (out / "checkpoints").exists()
    for suffix in ("png", "svg"):
        assert (out / "figures" / f"accuracy.{suffix}").stat().st_size > 5000


def test_a_short_run_is_not_judged(finished):
    out, result = finished
    checks = parameter_sharing.checks(result)
    assert {check.needs for check in checks} == {"1,000 steps of training and 1,000 sentences"}
    assert checks_table(checks) in (out / "summary.md").read_text()


def test_the_sources_two_sentences_are_asked_of_every_network(finished):
    out, result = finished
    asked = ["I went to IIT in 2017", "in 2017 I went to IIT"]
    assert result["asked"]["text"].tolist() == asked
    summary = (out / "summary.md").read_text()
    assert all(sentence in summary for sentence in asked)
    assert "Verdict: not judged" in summary
    for label in result["labels"]:
        for arm in ARMS:
            answers = result[label][arm]["answers"]
            assert answers.shape == (2, 2)
            assert set(answers.ravel()) <= set(range(2015, 2020))


def as_claimed():
    """Return the numbers of a study in which everything is as it is claimed to be."""
    positions, held = np.arange(19), np.isin(np.arange(19), HELD_OUT)
    shared, specific = "recurrent (GRU)", "position-specific"
    of_sizes = lambda *levels: np.array(levels)[:, None, None] * np.ones((1, 2, 19))
    accuracy = {
        shared: (of_sizes(0.3, 1.0, 1.0), of_sizes(0.99)),
        specific: (of_sizes(0.05, 0.4, 0.7), np.where(held, 0.02, of_sizes(0.7))),
    }
    result = {
        "labels": np.array([shared, specific]),
        "sizes": np.array([100, 300, 1000]),
        "positions": positions,
        "held_out": np.array(HELD_OUT),
        "chance": np.array(0.025),
        "asked": {"text": np.array(["in front", "behind"]), "year": np.array(2017)},
    }
    for label, by_arm in accuracy.items():
        result[label] = {
            arm: {
                "accuracy": values,
                "training_accuracy": np.ones(values.shape[:2]),
                "training_loss": np.zeros((*values.shape[:2], 1000)),
                "answers": np.full((10, 2), 2017),
            }
            for arm, values in zip(ARMS, by_arm, strict=True)
        }
    return flatten(result)


SHARED, SPECIFIC = (f"{label}/{{}}" for label in ("recurrent (GRU)", "position-specific"))
ANYWHERE, NEVER = ARMS
WRONG = [
    (SHARED, NEVER, "training_accuracy", lambda a: a - 0.02, "on the training set"),
    (SPECIFIC, ANYWHERE, "training_accuracy", lambda a: a - 0.02, "on the training set"),
    (SHARED, ANYWHERE, "accuracy", lambda a: a - 0.1, "recurrent: accuracy"),
    (SPECIFIC, ANYWHERE, "accuracy", lambda a: a + 0.4, "less position-specific"),
    (SHARED, NEVER, "accuracy", lambda a: a - 0.1, "where no year stood"),
    (SHARED, ANYWHERE, "answers", lambda y: np.where(np.arange(10)[:, None] < 2, 1999, y), "named"),
    (SPECIFIC, NEVER, "accuracy", lambda a: np.maximum(a, 0.06), "there, over"),
    (SPECIFIC, NEVER, "accuracy", lambda a: np.minimum(a, 0.1), "elsewhere, over"),
]


@pytest.mark.parametrize(("label", "arm", "name", "wrong", "claim"), WRONG)
def test_a_claim_fails_where_its_number_is_another(label, arm, name, wrong, claim):
    numbers, path = as_claimed(), f"{label.format(arm)}/{name}"
    assert all(check.holds for check in parameter_sharing.checks(nest(numbers)))
    other = parameter_sharing.checks(nest(numbers | {path: wrong(numbers[path])}))
    assert [claim in check.claim for check in other if not check.holds] == [True]


def test_every_claim_can_fail():
    claims = [check.claim for check in parameter_sharing.checks(nest(as_claimed()))]
    assert [claim for claim in claims if not any(part in claim for *_, part in WRONG)] == []


def test_plot_redraws_from_the_folder_alone(finished):
    out, _ = finished
    figure = out / "figures" / "accuracy.png"
    drawn = figure.read_bytes()
    figure.unlink()
    redraw(parameter_sharing.plot, out)
    assert figure.read_bytes() == drawn


def test_a_killed_study_resumes(finished, tmp_path, monkeypatch):
    expected = flatten(finished[1])

    def killed(*_):
        raise KeyboardInterrupt

    config = Config(out=tmp_path, **TOY)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    assert (tmp_path / "checkpoints").exists()
    result = flatten(main(config))
    assert result.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(result[name], values, err_msg=name)
