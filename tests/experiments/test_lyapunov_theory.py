"""`experiments.lyapunov_theory` at toy size: its checks hold, and fail, and it redraws."""

import jax
import numpy as np
import pytest

from experiments import lyapunov_theory
from experiments.common.numbers import flatten, nest
from experiments.common.run_folder import redraw
from experiments.tables.lyapunov import small_networks

TOY = {
    "units": 40,
    "gains": (1.5, 3.0),
    "seeds": 2,
    "steps": 300,
    "warmup": 100,
    "sizes": (20,),
    "mean_sizes": (20, 40),
    "mean_seeds": 3,
    "large": 40,
    "large_exponents": 2,
    "matrices": 2000,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "lyapunov"
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        return out, lyapunov_theory.main(lyapunov_theory.Config(out=out, **TOY))


@pytest.mark.xdist_group("lyapunov")
def test_the_experiment(study):
    """What holds at any size holds, and fails where theory is another; the figure is redrawn."""
    out, found = study
    result = flatten(found)
    checks = lambda numbers: lyapunov_theory.checks(nest(numbers))
    claims = {check.claim: check.holds for check in checks(result)}
    for part in ("g = 1.5: mean against ⟨ln |det J|⟩", "Gaussian products", "ln |eigenvalues|"):
        assert [holds for claim, holds in claims.items() if part in claim] == [True]
    for key, wrong, part in (
        ("products/law", lambda law: law + 0.02, "Gaussian products"),
        ("chaos/log_det", lambda mean: mean + 0.02, "ln |det J|"),
        ("chaos/largest_theory", lambda rate: rate + 0.2, "λ₁"),
        ("circular/exponents", lambda rate: rate + 0.1, "circular law"),
    ):
        other = checks(result | {key: wrong(result[key])})
        assert not any(
            check.holds for check in other if part in check.claim and "pub" not in check.claim
        )
    theory = result["chaos/mean_theory"][:, None]
    for off, holds in ((0.01, True), (0.03, False)):
        other = checks(result | {"finite/means": np.broadcast_to(theory + off, (2, 2, 3))})
        found = [
            check.holds for check in other if "N = 40" in check.claim and "pub" not in check.claim
        ]
        assert found == [holds] * 2
    summary = (out / "summary.md").read_text()
    assert "λ₁ of each network" in summary
    assert max(map(len, summary.splitlines())) <= 100
    # Networks of 40 units are too small for the theory, which is explained where it is seen.
    missing = result["chaos/mean_theory"] - result["chaos/exponents"].mean((1, 2))
    assert (np.abs(missing) > 0.02).any()
    assert "**NO** of a mean exponent" in summary
    exact = result | {"chaos/mean_theory": result["chaos/exponents"].mean((1, 2))}
    assert small_networks(nest(exact), lyapunov_theory.TOLERANCES["mean"]) == ""
    figure = out / "figures" / "lyapunov_theory.png"
    drawn = figure.read_bytes()
    figure.unlink()
    redraw(lyapunov_theory.plot, out)
    assert figure.read_bytes() == drawn
