"""Every oracle is met, and the page lists them all as they are."""

from pathlib import Path

import jax
import numpy as np
import pytest

from docs.pages.validation import page_of, rows_of
from tests.validation import ORACLES

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.measure.__name__)
def test_a_quantity_is_as_its_oracle_says(oracle):
    with jax.numpy_dtype_promotion("standard"):
        error = oracle.measure()
    assert np.isfinite(error)
    assert error <= oracle.tolerance


def test_the_page_has_every_oracle():
    kept = rows_of(PAGE.read_text())
    assert [row[:4] for row in kept] == [
        row[:4] for row in rows_of(page_of([0.0] * len(ORACLES), "3.11", "0.0"))
    ]
    assert all(float(found) <= float(most) for *_, most, found in kept)
