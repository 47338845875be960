"""The figures of the studies, of their kept numbers: for the text of a page, whole and readable."""

from pathlib import Path

import pytest

from experiments import reproduce
from experiments.common.run_folder import RunFolder
from tests.plotting.page import assert_fits_a_page

KEPT = Path(__file__).parents[2] / "docs" / "reproductions"


@pytest.mark.parametrize("name", reproduce.STUDIES)
def test_figures_of_a_study_fit_the_page(name):
    _, result = RunFolder(KEPT / name).read()
    for figure in reproduce.study_of(name).plot(result).values():
        assert_fits_a_page(figure, 6.75)
