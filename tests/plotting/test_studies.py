"""The figures of the studies, of their kept numbers: for the text of a page, whole and readable."""

from pathlib import Path

import pytest

from experiments import reproduce
from experiments.common.collections import COLLECTIONS
from experiments.common.run_folder import RunFolder
from tests.plotting.page import assert_fits_a_page

ROOT = Path(__file__).parents[2]
KEPT = {
    name: ROOT / collection.keep / name
    for collection in COLLECTIONS.values()
    for name in collection.studies
    if (ROOT / collection.keep / name).is_dir()
}


@pytest.mark.parametrize("name", KEPT)
def test_figures_of_a_study_fit_the_page(name):
    _, result = RunFolder(KEPT[name]).read()
    for figure in reproduce.study_of(name).plot(result).values():
        assert_fits_a_page(figure, 6.75)
