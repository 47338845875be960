"""The README's Python runs as it stands."""

import re
from pathlib import Path

import jax
import numpy as np

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_runs(capsys):
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    assert "jax.grad" in code
    namespace = {}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        exec(compile(code, str(README), "exec"), namespace)
    printed = capsys.readouterr().out
    assert "(100, 101, 32) (100, 100, 32)" in printed
    assert "0 violations" in printed
    np.testing.assert_array_equal(namespace["check"].violations, 0)


def test_its_links_and_files_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
