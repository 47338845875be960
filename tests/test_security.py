"""What SECURITY.md promises of files that others may have made."""

import ast
from pathlib import Path

import numpy as np
import pytest

from experiments.common.numbers import read_numbers
from rnn_jax import training

ROOT = Path(__file__).parents[1]
UNPICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def called(node):
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@pytest.mark.parametrize("top", ["rnn_jax", "experiments", "benchmarks"])
def test_nothing_unpickles_or_evaluates(top):
    loads = 0
    for path in (ROOT / top).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not UNPICKLES & {name.partition(".")[0] for name in names}, path
            elif isinstance(node, ast.Call):
                assert called(node) not in ("eval", "exec", "system"), path
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                assert given.get("shell", "False") == "False", path
                if ast.unparse(node.func) in ("np.load", "numpy.load", "np.lib.format.read_array"):
                    loads += 1
                    assert given.get("allow_pickle") == "False", (path, node.lineno)
    assert loads or top == "benchmarks"


class Bomb:
    """Says when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_pickles_in_files_are_refused(tmp_path):
    bomb = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "numbers.npz", bomb=bomb)
    with pytest.raises(ValueError, match="numbers"):
        read_numbers(tmp_path / "numbers.npz", None)
    with pytest.raises(ValueError, match=r"numbers\.npz"):
        training.restore(tmp_path / "numbers.npz", {"bomb": np.zeros(1)})
    np.save(tmp_path / "loss.npy", bomb)
    with pytest.raises(ValueError, match="loss"):
        training.read_record(tmp_path)
