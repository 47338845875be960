"""What benchmarks share: reports of rows and machines, and times of all rounds."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import benchmarks
from benchmarks import report, timing

FOLDER = Path(benchmarks.__file__).parent


def test_a_report_has_rows_all_rounds_and_the_machine(tmp_path, capsys):
    times = timing.in_rounds(
        {"a": lambda: np.ones(2), "b": lambda: None}, 4, {"a": 2, "b": 1}, pause=0
    )
    rows = [{"method": name, **timing.summary(of.means)} for name, of in times.items()]
    file = tmp_path / "run" / "rows.json"
    report.save_rows(file, rows, rate=np.float32(2.5))
    found = report.read_rows(file)
    assert found == json.loads(file.read_text())
    assert found["rate"] == 2.5
    assert found["machine"].keys() >= {"machine", "cores", "system", "python", "jax", "devices"}
    for row, written in zip(rows, found["rows"], strict=True):
        assert row == written
        assert len(written["all ms"]) == 4
        assert np.median(written["all ms"]) == pytest.approx(written["ms"])
    figures = {"drawn": Figure(figsize=(1, 1))}
    report.conclude(tmp_path / "run", report.table(rows, "Times:"), figures=figures)
    table = (tmp_path / "run" / "table.md").read_text()
    assert "Times:" in table
    assert "fastest ms" in table
    assert "all ms" not in table
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("rows.json", "table.md", "drawn.png", "drawn.svg")
    }
    printed = capsys.readouterr().out
    assert table.strip() in printed
    assert f"cores {report.machine()['cores']}" in printed


def test_rounds_are_interleaved_and_all_kept(monkeypatch):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = timing.in_rounds(calls, 3, {"a": 2, "b": 1}, pause=0)
    assert "".join(order) == 3 * "aab"
    assert [len(round) for round in times["a"].rounds] == [2, 2, 2]
    assert len(times["a"].calls) == 6
    order.clear()
    timing.in_rounds(calls, 10, pause=0, limit=-1.0, min_rounds=2)
    assert "".join(order) == 2 * "ab"


def test_what_is_made_of_times():
    times = timing.Times([[1.0, 3.0], [2.0, 2.0], [8.0, 0.0]])
    assert times.calls == [1, 3, 2, 2, 8, 0]
    assert times.means == [2, 2, 4]
    assert timing.summary([1.0, 3.0, 8.0], "ms a step", per=10) == {
        "ms a step": 300.0,
        "fastest ms a step": 100.0,
        "slowest ms a step": 800.0,
        "all ms a step": [100.0, 300.0, 800.0],
    }
    # Within a round, not of the medians, which are 3 and 2.
    assert timing.ratio([2.0, 3.0, 40.0], [1.0, 2.0, 10.0]) == 2.0


def test_no_benchmark_writes_tables_or_json_of_its_own():
    for path in FOLDER.glob("*.py"):
        imported = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
        }
        allowed = {"json", "tabulate", "platform"} if path.name == "report.py" else set()
        assert imported & {"json", "tabulate", "platform"} == allowed, path.name
