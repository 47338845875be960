"""The experiments that hold gradients against theory, at toy size: they find what they claim.

Each one's own checks hold, those checks fail where the theory is another one, its numbers agree
with NumPy, and its figure is redrawn from its folder.
"""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from experiments import error_surface, forget_gate, memory_without_explosion, phase_diagram
from experiments.common.checks import at_least, at_most, checks_table, judged_if, within
from experiments.common.command_line import command_line
from experiments.common.numbers import flatten, nest
from rnn_jax import cells

# One worker, so that each toy study runs once.
pytestmark = pytest.mark.xdist_group("theory")

TOYS = {
    "eigenvalue_myth": {"lags": 40, "couplings": (0.0, 10.0), "networks": 4, "units": 50},
    "error_surface": {"resolution": 24, "finer": 4, "starts": 3},
    "forget_gate": {
        "biases": (0.0, 1.0, 2.0),
        "hidden_size": 24,
        "input_size": 24,
        "seeds": 4,
        "warmup": 40,
        "lags": 120,
    },
    "memory_without_explosion": {"factors": (0.5, 0.9, 0.98), "sequences": 256, "lags": 100},
    "phase_diagram": {
        "units": 80,
        "resolution": 14,
        "warmup": 50,
        "steps": 100,
        "lag": 30,
        "together": 49,
    },
    "turing": {"longest": 28, "words": 12, "beaver_steps": 240},
}


@functools.cache
def toy(name, out):
    module = importlib.import_module(f"experiments.{name}")
    # As from the command line: float32 where an experiment asks for no other.
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        return module, module.main(module.Config(out=out, **TOYS[name]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """name -> (module, folder, result)."""
    root = tmp_path_factory.mktemp("runs")

    def finished(name):
        module, result = toy(name, root / name)
        return module, root / name, result

    return finished


@pytest.mark.parametrize("name", TOYS)
def test_what_is_claimed_is_found(run, name):
    module, folder, result = run(name)
    failed = [check.claim for check in module.checks(result) if not check.holds]
    # Ten thousand networks take minutes.
    assert failed == (["networks"] if name == "phase_diagram" else [])
    summary = (folder / "summary.md").read_text()
    assert checks_table(module.checks(result)) in summary
    assert max(map(len, summary.splitlines())) <= 100
    for values in flatten(result).values():
        assert values.dtype.kind != "f" or np.isfinite(values).all() or name == "error_surface"


WRONG = [
    ("eigenvalue_myth", "nilpotent/radius", lambda r: r + 1e-12, "ρ(W)"),
    ("eigenvalue_myth", "nilpotent/law", lambda law: law + 1e-9, "2^l ‖J‖"),
    ("eigenvalue_myth", "nilpotent/bound", lambda bound: 0.2 * bound, "exceeded"),
    ("eigenvalue_myth", "linear/law", lambda law: law + 1e-9, "‖Wⁿ‖"),
    ("eigenvalue_myth", "saturated/exponent", lambda rate: rate / 2, "½ ln χ"),
    ("error_surface", "cut/iterated_folds", lambda folds: folds + 1e-5, "by iteration"),
    ("error_surface", "cut/wall_law", lambda norm: norm * (1 + 1e-6), "on the wall"),
    ("error_surface", "clipped/E", lambda E: E + 1e-3, "clipped descent"),
    ("error_surface", "not clipped/path", lambda path: 0 * path + (5, -2), "out of the picture"),
    ("forget_gate", "still", lambda logs: 1.01 * logs, "f^100"),
    ("forget_gate", "random_rate", lambda rate: 1.03 * rate, "⟨ln σ"),
    ("forget_gate", "total", lambda logs: 2 * logs, "∂c_t/∂c_k"),
    ("memory_without_explosion", "state/law", lambda law: 1.3 * law, "E[h²]"),
    ("memory_without_explosion", "sensitivity/law", lambda law: 1.5 * law, "E[(∂h/∂λ)²]"),
    ("memory_without_explosion", "gradient", lambda g: g**0.5, "λ^(t−k)"),
    ("phase_diagram", "theory", lambda rate: 2 * rate, "root mean square"),
    ("phase_diagram", "line", lambda gains: 0 * gains + 1, "gain of λ₁ = 0"),
    ("turing", "machines/a^n b^n/first_wrong", lambda first: first - 1, "first wrong step"),
    ("turing", "machines/a^n b^n/first_wrong", lambda first: 0 * first + 3, "deepest stack"),
    ("turing", "machines/brackets of two kinds/same_answer", lambda same: 0 * same, "answered"),
    ("turing", "tapes/busy beaver of 5 states/wrong", lambda wrong: wrong + 1, "not the tape"),
    ("turing", "tapes/busy beaver of 4 states/halted", lambda steps: steps + 1, "halts"),
    ("turing", "tapes/busy beaver of 4 states/ones", lambda ones: ones - 1, "ones on its tape"),
]


@pytest.mark.parametrize(("name", "key", "wrong", "claim"), WRONG)
def test_another_theory_fails(run, name, key, wrong, claim):
    module, _, result = run(name)
    numbers = flatten(result)
    other = nest(numbers | {key: wrong(np.asarray(numbers[key]))})
    before = {check.claim for check in module.checks(result) if not check.holds}
    after = {check.claim for check in module.checks(other) if not check.holds}
    assert any(claim in failed for failed in after - before)


@pytest.mark.parametrize("name", TOYS)
def test_plot_redraws_from_the_folder_alone(run, name, monkeypatch):
    module, folder, _ = run(name)
    drawn = {figure: figure.read_bytes() for figure in (folder / "figures").glob("*.png")}
    for figure in drawn:
        figure.unlink()
    monkeypatch.setattr("sys.argv", [name, "plot", str(folder)])
    command_line(module.Config, module.main, module.plot, "A study.")
    assert drawn
    assert {figure: figure.read_bytes() for figure in drawn} == drawn


def test_checks():
    """NaN holds nowhere; the table counts what holds."""
    checks = [within("a", 1.01, 1, 0.02), at_most("b", 3, 2), at_least("c", np.nan, 2)]
    assert [check.holds for check in checks] == [True, False, False]
    assert "1 of 3 hold" in checks_table(checks)
    assert judged_if(True, "8 seeds", checks) == checks
    few = judged_if(False, "9 steps", judged_if(False, "8 seeds", checks[:2]))
    assert [check.holds for check in few] == [None, None]
    assert "1 of 1 hold. Not judged without: 8 seeds, 9 steps." in checks_table([checks[0], *few])


def test_the_gradient_doubles_though_the_radius_is_zero(run):
    """Against powers of J by NumPy, and the closed form ‖J^(l+1)‖ = 2^l ‖J‖, to 1e-10."""
    _, _, result = run("eigenvalue_myth")
    J = np.array([[8.0, 6], [-8, -6]])
    powers = [np.linalg.norm(np.linalg.matrix_power(J, l), 2) for l in range(41)]
    np.testing.assert_allclose(np.exp(result["nilpotent"]["measured"]), powers, rtol=1e-10)
    doubled = 2.0 ** np.arange(40) * np.linalg.norm(J, 2)
    np.testing.assert_allclose(np.exp(result["nilpotent"]["measured"][1:]), doubled, rtol=1e-10)
    assert result["nilpotent"]["radius"] == 0
    W = np.array([[0.8, 10], [0, 0.8]])
    powers = [np.linalg.norm(np.linalg.matrix_power(W, n), 2) for n in range(81)]
    np.testing.assert_allclose(np.exp(result["linear"]["measured"][1]), powers, rtol=1e-10)


def pascanu(w, b):
    x = 0.5 + 0 * w
    for _ in range(50):
        x = w * special.expit(x) + b
    return (special.expit(x) - 0.7) ** 2


def test_the_error_surface_is_pascanus(run):
    _, _, result = run("error_surface")
    w, b = np.meshgrid(result["w"], result["b"])
    np.testing.assert_allclose(result["E"], pascanu(w, b), rtol=1e-9, atol=1e-12)
    # Off the wall, where differences can follow it, the gradient is that of finite differences.
    at, h = jnp.array([[3.5, -1.3], [5.0, -2.2], [6.0, -3.3], [6.5, -2.0]]), 1e-6
    config = error_surface.Config()
    gradient = jax.vmap(jax.grad(lambda at: error_surface.energy(config, at)))(at)
    w, b = np.asarray(at).T
    by_w = (pascanu(w + h, b) - pascanu(w - h, b)) / (2 * h)
    by_b = (pascanu(w, b + h) - pascanu(w, b - h)) / (2 * h)
    np.testing.assert_allclose(gradient, np.stack([by_w, by_b], -1), rtol=1e-6, atol=1e-9)


def test_two_attractors_at_w_5(run):
    """The oracle's interval, by the experiment's iteration and by counting fixed points."""
    _, _, result = run("error_surface")
    oracle = [-2.65561, -2.34439]
    np.testing.assert_allclose(result["cut"]["iterated_folds"], oracle, atol=6e-6)
    x = np.linspace(-6, 6, 400_001)

    def crossings(b):
        return np.sum(np.diff(np.sign(5 * special.expit(x) + b - x)) != 0)

    assert [crossings(b) for b in (-2.65562, -2.6556, -2.3444, -2.34438)] == [1, 3, 3, 1]


def test_clipped_descent_finds_the_minimum(run):
    """Where unclipped descent was thrown: E = 0 on the curve that optimization finds too."""
    _, _, result = run("error_surface")
    w, b = result["clipped"]["path"][-1]
    root = optimize.brentq(lambda b: special.expit(fixed_point(w, b)) - 0.7, b - 0.1, b + 0.1)
    np.testing.assert_allclose(b, root, atol=1e-3)
    steps = np.linalg.norm(np.diff(result["clipped"]["path"], axis=0), axis=1)
    assert steps.max() <= 2.0 * 0.1 * (1 + 1e-12)
    assert np.linalg.norm(result["not clipped"]["path"][-1] - result["not clipped"]["path"][0]) > 10


def fixed_point(w, b):
    x = 0.5
    for _ in range(50):
        x = w * special.expit(x) + b
    return x


def test_forget_gates(run):
    """f^100 of the oracles through the library's LSTM; horizons of what decays exponentially."""
    _, _, result = run("forget_gate")
    still = np.exp(result["still"][:, 100].astype(float))
    np.testing.assert_allclose(still, special.expit([0.0, 1, 2]) ** 100, rtol=2e-5)
    np.testing.assert_allclose(still, [8e-31, 2.5e-14, 3e-6], rtol=0.05)
    rates = np.array([-0.7, -0.05, -1e-9])
    horizons = forget_gate.horizon(rates[:, None] * np.arange(200))
    np.testing.assert_allclose(horizons, [1 / 0.7, 20, np.inf])
    # Concavity: ⟨ln σ⟩ < ln σ; and the mean of logarithms is below that of the squares.
    assert (result["random_rate"] < result["constant_rate"]).all()
    assert (result["direct_rms"] >= result["direct"] - 1e-4).all()


def test_sensitivity_is_the_derivative():
    """Time averages of h², (∂h/∂λ)² and (γ ∂h/∂ν)² against recursions in NumPy."""
    config = memory_without_explosion.Config(factors=(0.5, 0.9), together=3, memories=4.0)
    factors, key = jnp.array(config.factors), jax.random.key(5)
    got = memory_without_explosion._powers(config, factors, key)
    lam = np.array(config.factors)
    xs = np.asarray(jax.random.normal(key, (80, 3, 1)))
    h, s = np.zeros((3, 2)), np.zeros((3, 2))
    hs, ss = [], []
    for x in xs:
        h, s = lam * h + x, lam * s + h
        hs.append(h)
        ss.append(s)
    mean_square = lambda series: np.mean(np.square(series[40:]), 0)
    np.testing.assert_allclose(got["state"], mean_square(hs), rtol=1e-10)
    np.testing.assert_allclose(got["sensitivity"], mean_square(ss), rtol=1e-10)
    scale = (1 - lam**2) * (lam * np.log(lam)) ** 2
    np.testing.assert_allclose(got["normalized"], scale * mean_square(ss), rtol=1e-10)


def test_one_network_of_the_phase_diagram():
    """Its two rates are those of its product of Jacobians, forward and back.

    Without input or bias below gain 1 it dies out: both are ln of W's singular growth, ln ρ(W).
    """
    config = phase_diagram.Config(units=24, warmup=400, steps=400, lag=400)
    none, key = jnp.array(0.0), jax.random.key(3)
    follow = jax.jit(functools.partial(phase_diagram.follow, config))
    forward, backward = follow(jnp.array(0.6), none, none, key)
    init = cells.initializers.gaussian(24**-0.5)
    cell = cells.elman_preactivation(24, recurrent_init=init, dtype=jnp.float64)
    W = 0.6 * np.asarray(cell.init(jax.random.split(key, 6)[0], 0).W)
    radius = np.abs(np.linalg.eigvals(W)).max()
    np.testing.assert_allclose([forward, backward], np.log(radius), atol=0.02)


def test_the_crossing_counts_signs():
    gains = np.linspace(0.5, 3, 101)
    exponent = np.stack([np.tile(gains - line, (2, 1)) for line in (1.01, 2.3)])
    crossing = phase_diagram.crossing({"gains": gains, "exponent": exponent})
    np.testing.assert_allclose(crossing, [[1.01] * 2, [2.3] * 2], atol=0.0126)
