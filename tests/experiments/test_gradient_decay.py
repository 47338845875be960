"""The study end to end at toy size: what it leaves, that it redraws, that it resumes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gradient_decay
from experiments.common.checks import checks_table
from experiments.common.command_line import command_line
from experiments.common.numbers import flatten, nest
from experiments.gradient_decay import Config, main
from rnn_jax import cells, plotting
from rnn_jax.tasks import load_text
from rnn_jax.theory import mean_field
from rnn_jax.training import restore

# One worker, so that the toy study runs once.
pytestmark = [pytest.mark.usefixtures("optax_promotes"), pytest.mark.xdist_group("study")]

TOY = {"hidden_size": 6, "seeds": 2, "T": 8, "batch_size": 4, "steps": 12, "gains": (0.5, 1.5)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, optax_promotes):
    out = tmp_path_factory.mktemp("runs") / "toy"
    return out, main(Config(out=out, **TOY))


def test_the_run_folder(finished):
    out, nested = finished
    result = flatten(nested)
    record = json.loads((out / "config.json").read_text())
    assert record["config"]["hidden_size"] == 6
    assert record["inputs"]["characters"] > 400_000
    assert len(record["inputs"]["sha256"]) == 64
    summary = (out / "summary.md").read_text()
    for label in ("Elman, gain 0.5", "Elman, gain 1.5", "LSTM"):
        assert label in summary
        assert result[f"{label}/after training/measured"].shape == (2, 9, 9)
        assert np.isfinite(result[f"{label}/clipped/bits_per_character"]).all()
        assert (result[f"{label}/after training/product_bound_violations"] == 0).all()
    assert (result["Elman, gain 1.5/after training/power_bound_violations"] == 0).all()
    assert "LSTM/after training/power_bound" not in result
    assert not (out / "checkpoints").exists()
    assert max(map(len, summary.splitlines())) <= 100
    # Which state it is: an LSTM's is c and h together.
    assert str(result["LSTM/state"]) == "(c, h)"
    assert str(result["Elman, gain 0.5/state"]) == "h"
    names = {"decay", "loss_to_state", "learning_curves", "gradient_norms"}
    for name in names:
        for suffix in ("png", "svg"):
            assert (out / "figures" / f"{name}.{suffix}").stat().st_size > 5000


def test_what_a_short_run_claims_holds_and_the_rest_is_not_judged(finished):
    out, result = finished
    checks = gradient_decay.checks(result)
    assert not [check.claim for check in checks if check.holds is False]
    bounds = [check for check in checks if "λ_W λ_φ" in check.claim or "above" in check.claim]
    assert all(check.holds for check in bounds)
    assert {check.needs for check in checks if check not in bounds} == {
        *("T of 30", "8 seeds", "200 steps of training", "200 steps of training, 8 seeds")
    }
    assert checks_table(checks) in (out / "summary.md").read_text()


def as_claimed(T=30, seeds=8, steps=200):
    """Return the numbers of a study in which everything is as it is claimed to be."""
    lag = np.maximum(np.subtract.outer(np.arange(T + 1), np.arange(T + 1)), 0)
    seed = np.linspace(-0.01, 0.01, seeds)
    later = np.where(np.tri(T + 1), 0.0, -np.inf)

    def norms(rate, product, power):
        rates = rate + seed
        table = lambda rate: rate * lag + later + np.zeros((seeds, 1, 1))
        bounds = {"product_bound": product} | ({} if power is None else {"power_bound": power})
        return {
            "measured": rates[:, None, None] * lag + later,
            "decay": rates,
            **{name: table(rate) for name, rate in bounds.items()},
            **{f"{name}_violations": np.zeros(seeds, int) for name in bounds},
        }

    arms = {
        arm: {"bits_per_character": 2.4 + seed, "loss": np.ones((seeds, steps))}
        for arm in gradient_decay.ARMS
    }
    before, after = gradient_decay.PHASES
    result = {"labels": np.array(["Elman, gain 0.5", "Elman, gain 2", "LSTM"])}
    result["unigram_entropy"] = np.array(4.5)
    for gain in (0.5, 2.0):
        theory = float(mean_field(gain, 0.0, 1.0).largest_exponent)
        power, trained = np.log(gain), norms(-0.32, 1.0, 1.4)
        start = norms(theory, power - 0.05, power)
        result[f"Elman, gain {gain:g}"] = {before: start, after: trained, **arms}
    result["LSTM"] = {before: norms(-0.12, 0.1, None), after: norms(-0.07, 0.6, None), **arms}
    return flatten(result)


STARTS, ENDS = (f"Elman, gain 0.5/{phase}" for phase in gradient_decay.PHASES)
BENT = np.where(np.subtract.outer(np.arange(31), np.arange(31)) > 15, -6.0, 0.0)
WRONG = [
    (f"{STARTS}/product_bound_violations", lambda n: n + 1, "above Π‖J_i‖"),
    ("LSTM/after training/product_bound_violations", lambda n: n + 1, "above Π‖J_i‖"),
    (f"{ENDS}/power_bound_violations", lambda n: n + 1, "above (λ_W λ_φ)"),
    (f"{ENDS}/product_bound", lambda bound: 1.5 * bound, "Π‖J_i‖ over"),
    (f"{STARTS}/power_bound", lambda bound: 0.9 * bound, "0.5: ln (λ_W λ_φ)"),
    ("Elman, gain 2/before training/power_bound", lambda bound: 2 * bound, "2: ln (λ_W λ_φ)"),
    (f"{STARTS}/decay", lambda rate: rate + 0.1, "0.5: nats per step"),
    ("Elman, gain 2/before training/decay", lambda rate: rate - 0.1, "2: nats per step"),
    (f"{STARTS}/measured", lambda norms: norms + BENT, "0.5, before training: nats off"),
    (f"{ENDS}/measured", lambda norms: norms + BENT, "0.5, after training: nats off"),
    *(
        (
            f"Elman, gain 2/{phase}/measured",
            lambda norms: norms + BENT,
            f"2, {phase}: nats off",
        )
        for phase in gradient_decay.PHASES
    ),
    ("LSTM/not clipped/bits_per_character", lambda bits: bits + 1.5, "bits per character"),
    (f"{ENDS}/decay", lambda rate: 0.1 * (-1.0) ** np.arange(8) - 1.0957, "rates moved"),
    ("LSTM/after training/decay", lambda rate: rate - 0.3, "LSTM after training"),
]


@pytest.mark.parametrize(("path", "wrong", "claim"), WRONG)
def test_a_claim_fails_where_its_number_is_another(path, wrong, claim):
    numbers = as_claimed()
    assert all(check.holds for check in gradient_decay.checks(nest(numbers)))
    other = gradient_decay.checks(nest(numbers | {path: wrong(numbers[path])}))
    assert [claim in check.claim for check in other if not check.holds] == [True]


def test_every_claim_can_fail():
    claims = [check.claim for check in gradient_decay.checks(nest(as_claimed()))]
    assert [claim for claim in claims if not any(part in claim for *_, part in WRONG)] == []


def test_plot_redraws_from_the_folder_alone(finished, monkeypatch):
    out, _ = finished
    figure = out / "figures" / "decay.png"
    drawn = figure.read_bytes()
    figure.unlink()
    monkeypatch.setattr("sys.argv", ["gradient_decay", "plot", str(out)])
    command_line(Config, main, gradient_decay.plot, "The study.")
    assert figure.read_bytes() == drawn


def test_a_killed_study_resumes(finished, tmp_path, monkeypatch):
    expected = flatten(finished[1])

    def killed(*_):
        raise KeyboardInterrupt

    config = Config(out=tmp_path, **TOY)
    with monkeypatch.context() as patch:
        patch.setattr(gradient_decay, "measure_norms", killed)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    assert (tmp_path / "checkpoints").exists()
    result = flatten(main(config))
    assert result.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(result[name], values, err_msg=name)


def test_bands_by_lag():
    table = np.full((3, 5, 5), -np.inf)
    for seed in range(3):
        for t in range(5):
            for k in range(t + 1):
                table[seed, t, k] = seed - 2.0 * (t - k)
    np.testing.assert_array_equal(
        plotting.band_by_lag(table, (0, 50, 100)),
        np.array([0, 1, 2])[None, :] - 2.0 * np.arange(5)[:, None],
    )


def minimal_cell(hidden_size):
    """A user's factory: a plain function of one step, and how its parameters start."""

    def step(p, h, x):
        h = 0.5 * h + 0.5 * jnp.tanh(p["W"] @ h + p["U"] @ x)
        return h, h

    def init(key, input_size):
        W, U = (jax.random.normal(k, (hidden_size, hidden_size)) / 4 for k in jax.random.split(key))
        return {"W": W, "U": jnp.resize(U, (hidden_size, input_size))}

    return cells.from_function(step, jnp.zeros(hidden_size), init)


def test_trained_networks_are_kept(finished):
    """What was trained is restored, and is as good as it was said to be."""
    out, result = finished
    text = load_text()
    (cell,) = gradient_decay.groups(Config(out=out, **TOY), len(text.vocabulary))[1].cells
    init = lambda key: cell.init(key, len(text.vocabulary))
    like = jax.vmap(init)(jax.random.split(jax.random.key(0), TOY["seeds"]))
    bits = jax.jit(jax.vmap(lambda p: gradient_decay._bits_per_character(cell, text, p)))
    for arm in gradient_decay.ARMS:
        params = restore(out / "networks" / f"LSTM, {arm}.npz", like)
        expected = result["LSTM"][arm]["bits_per_character"]
        np.testing.assert_allclose(bits(params), expected, rtol=1e-5)


@pytest.mark.parametrize("cell", ["antisymmetric", f"{__name__}:minimal_cell"])
def test_a_cell_of_ones_own_is_studied(cell, tmp_path):
    with jax.enable_x64(False):
        result = flatten(main(Config(cell=cell, out=tmp_path, **{**TOY, "gains": None})))
    assert list(result["labels"]) == [cell]
    assert result[f"{cell}/after training/measured"].shape == (2, 9, 9)
    assert (result[f"{cell}/after training/product_bound_violations"] == 0).all()
    assert np.isfinite(result[f"{cell}/clipped/bits_per_character"]).all()
    assert (tmp_path / "figures" / "decay.png").stat().st_size > 5000


def test_a_cell_that_is_not_there_stops_the_study_before_it_begins(tmp_path):
    with pytest.raises(ValueError, match=r"^cell: got .*; expected .+\. [A-Z]"):
        main(Config(cell="lsmt", out=tmp_path / "run", **{**TOY, "gains": None}))
    assert not (tmp_path / "run").exists()
