"""The page of all reproductions, from the numbers and figures that are kept of their runs."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.checks import VERDICTS, Check, asked, shown
from experiments.common.numbers import Result
from experiments.common.provenance import NOT_COMPARED, settings_of
from experiments.common.report import escaped
from experiments.common.run_folder import RunFolder
from experiments.common.study import Study
from experiments.tables.arms import gradient_rows

Record = Mapping[str, Any]
"""A run's config.json."""
IN_NATS = (
    "Gradients on held-out sequences, medians over seeds: the rate at which ‖∂s_t/∂s_k‖ changes "
    "and λ₁ in nats a step, the horizon in steps."
)
KEPT = ("config.json", "numbers.npz")
HEAD = """# Reproductions

What papers of this field found, and what their experiments give here. Each study is one command;
`make reproduce` runs them all in their reduced settings and writes this page from their run
folders, whose numbers and figures are in [{kept}]({kept}).

*Ours* is the median over networks that differ in their seeds, with the 10th and the 90th
percentile; a verdict is about that median. Where a published number is not reached, the verdict
says so.
"""


def keep(runs: Mapping[str, Path], folder: Path) -> None:
    """Copy what the page is made of out of every finished run: settings, numbers, figures."""
    for name, run in runs.items():
        if RunFolder(run).record() is None:
            continue
        there = folder / name
        shutil.rmtree(there, ignore_errors=True)
        there.mkdir(parents=True)
        for file in (*(run / part for part in KEPT), *sorted((run / "figures").glob("*.png"))):
            shutil.copy(file, there / file.name)


def page_of(studies: Mapping[str, Study], kept: Path, beside: Path) -> str:
    """Return the page, in Markdown.

    Args:
      studies: by name.
      kept: the folder of `keep`.
      beside: the folder in which the page is to stand.
    """
    where = Path(os.path.relpath(kept, beside)).as_posix()
    runs = {name: RunFolder(kept / name).read() for name in studies}
    checks = {name: study.checks(runs[name][1]) for name, study in studies.items()}
    overview = [
        [f"[{name}](#{name})", _counted(checks[name]), _minutes(runs[name][0])] for name in studies
    ]
    parts = [
        HEAD.format(kept=where),
        _table(["study", "claims borne out", "minutes"], overview),
        *(
            _section(name, study, *runs[name], checks[name], kept, where)
            for name, study in studies.items()
        ),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(
    name: str,
    study: Study,
    record: Record,
    result: Result,
    checks: Sequence[Check],
    kept: Path,
    where: str,
) -> str:
    """Return what the page says of one study."""
    first, *rest = (" ".join(part.split()) for part in study.doc.strip().split("\n\n"))
    claim = [part.removeprefix("Claim: ") for part in rest if part.startswith("Claim")]
    rows = [
        [
            check.claim,
            check.source or "theory",
            check.theory,
            shown(check) if check.values else f"{check.measured:.6g}",
            asked(check),
            VERDICTS[check.holds],
        ]
        for check in checks
    ]
    figures = sorted(file.stem for file in (kept / name).glob("*.png"))
    parts = [
        f"## {name}",
        f"**{first}** {_sentence(claim)}",
        _table(["claim", "source", "published", "ours", "asked", "borne out"], rows),
        *(f"![{name}, {figure}]({where}/{name}/{figure}.png)" for figure in figures),
    ]
    if "arms" in result:
        headers = ["before → after training", "decay rate", "horizon", "λ₁"]
        parts += [IN_NATS, _table(headers, gradient_rows(result["arms"]))]
    versions = record["versions"]
    words = ["python", "-m", f"experiments.{name}", *options_of(study, record["config"])]
    made = f"`{shlex.join(words)}`: {_minutes(record)} minutes on {record['devices']}"
    parts.append(f"{made}, JAX {versions['jax']}.")
    return "\n\n".join(parts)


def options_of(study: Study, given: Mapping[str, Any]) -> list[str]:
    """Return the options of a run with these settings, without those that are the defaults."""
    setting = {"setting": given["setting"]} if "setting" in given else {}
    defaults = settings_of(study.config(**setting))
    differ = {k: v for k, v in given.items() if k not in NOT_COMPARED and v != defaults[k]}
    if setting and given["setting"] != settings_of(study.config())["setting"]:
        differ = setting | differ
    words = []
    for key, value in differ.items():
        option = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{option}", *map(str, values)]
    return words


def _counted(checks: Sequence[Check]) -> str:
    judged = [check for check in checks if check.holds is not None]
    return f"{sum(bool(check.holds) for check in judged)} of {len(judged)}"


def _minutes(record: Record) -> str:
    return f"{record['seconds'] / 60:.1f}"


def _sentence(claim: Sequence[str]) -> str:
    return " ".join(part[:1].upper() + part[1:] for part in claim)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, of lines of any length."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(map(escaped, line))} |" for line in lines)
