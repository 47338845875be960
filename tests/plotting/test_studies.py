"""The figures of the studies, of their kept numbers: for the text of a page, whole and readable."""

import shutil
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


def test_kept_figures_are_drawn_anew_from_their_numbers(tmp_path):
    shutil.copytree(KEPT["char_lm"], tmp_path / "kept" / "char_lm")
    (tmp_path / "kept" / "char_lm" / "learning.png").write_bytes(b"old")
    (tmp_path / "kept" / "char_lm" / "gone.png").write_bytes(b"of another version")
    page = tmp_path / "PAGE.md"
    settings = reproduce.Reproduce(redraw=True, keep=tmp_path / "kept", page=page)
    assert reproduce.main(settings) == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "kept" / "char_lm").iterdir()}
    kept = {path.name: path.read_bytes() for path in KEPT["char_lm"].iterdir()}
    assert found.keys() == kept.keys()
    assert found.pop("learning.png").startswith(b"\x89PNG")
    assert all(found[name] == kept[name] for name in found)
    assert "kept/char_lm/learning.png" in page.read_text()
