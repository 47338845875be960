"""The page of a collection of studies, from the numbers and figures kept of their runs."""

from __future__ import annotations

import json
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
from experiments.common.run_folder import RunFolder, write_figures
from experiments.common.study import Study
from experiments.tables.arms import gradient_rows

Record = Mapping[str, Any]
"""A run's config.json."""
IN_NATS = (
    "Gradients on held-out sequences, medians over seeds: the rate at which ‖∂s_t/∂s_k‖ changes "
    "and λ₁ in nats a step, the horizon in steps."
)
OF_THE_MACHINE = ("command", "platform")
"""What is not kept of a run's config.json."""
NOTES = ("Departures: ", "Not reached: ")
"""How paragraphs of a study's docstring begin that the page has after the claims."""
OTHER_SEEDS = "other_seeds.json"


def keep(studies: Mapping[str, Study], runs: Path, folder: Path) -> None:
    """Copy what the page is made of out of every finished run: settings, numbers, figures.

    Args:
      studies: by name.
      runs: where their runs are, a folder each; those of another base seed are in `seed N/`.
      folder: where it is kept; what was kept of a study before is replaced.
    """
    for name, study in studies.items():
        record = RunFolder(runs / name).record()
        if record is None:
            continue
        there = folder / name
        shutil.rmtree(there, ignore_errors=True)
        there.mkdir(parents=True)
        _write(there / "config.json", _of_any_machine(record))
        for file in (runs / name / "numbers.npz", *sorted((runs / name / "figures").glob("*.png"))):
            shutil.copy(file, there / file.name)
        others = {}
        for run in sorted(runs.glob(f"seed */{name}")):
            if (other := RunFolder(run).record()) is not None and _apart_from_seed(other, record):
                checks = study.checks(RunFolder(run).read()[1])
                seed = other["config"]["seed"]
                others[seed] = [[check.claim, check.measured, check.holds] for check in checks]
        if others:
            _write(there / OTHER_SEEDS, others)


def redraw(studies: Mapping[str, Study], folder: Path) -> None:
    """Draw the figures of what is kept anew, from the kept numbers alone.

    Args:
      studies: by name; those of which nothing is kept are left out.
      folder: as for `keep`; numbers and settings stay as they are.
    """
    for name, study in studies.items():
        if not (folder / name).is_dir():
            continue
        figures = study.plot(RunFolder(folder / name).read()[1])
        for old in (folder / name).glob("*.png"):
            old.unlink()
        write_figures(folder / name, figures, formats=("png",))
        print(f"{name}: {', '.join(figures)}", flush=True)


def _of_any_machine(record: Record) -> dict[str, Any]:
    """Return a run's config.json without what names a folder or a machine."""
    config = {k: v for k, v in record["config"].items() if k not in NOT_COMPARED}
    return {k: v for k, v in record.items() if k not in OF_THE_MACHINE} | {"config": config}


def _apart_from_seed(record: Record, other: Record) -> bool:
    """Return whether two runs have the same settings but for the seed, where they have one."""
    one, two = (_of_any_machine(each)["config"] for each in (record, other))
    return one.pop("seed", None) != two.pop("seed", None) and one == two


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")


def page_of(studies: Mapping[str, Study], kept: Path, folder: Path, head: str, beside: str) -> str:
    """Return the page, in Markdown.

    Args:
      studies: by name.
      kept: the folder of `keep`.
      folder: the folder in which the page is to stand.
      head: how it begins; `{kept}` stands for the path from the page to `kept`.
      beside: what a measured number stands beside, the header of that column.
    """
    where = Path(os.path.relpath(kept, folder)).as_posix()
    runs = {name: RunFolder(kept / name).read() for name in studies}
    checks = {name: study.checks(runs[name][1]) for name, study in studies.items()}
    overview = [
        [f"[{name}](#{name})", _counted(checks[name]), _minutes(runs[name][0])] for name in studies
    ]
    seconds = sum(record["seconds"] for record, _ in runs.values())
    every = [check for found in checks.values() for check in found]
    overview.append(["all", _counted(every), f"{seconds / 60:.0f}"])
    parts = [
        head.format(kept=where),
        _table(["study", "claims borne out", "minutes"], overview),
        *(
            _section(name, study, *runs[name], checks[name], kept, where, beside)
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
    beside: str,
) -> str:
    """Return what the page says of one study."""
    others = _other_seeds(kept / name)
    first, *rest = (" ".join(part.split()) for part in study.doc.strip().split("\n\n"))
    claim = [part.removeprefix("Claim: ") for part in rest if part.startswith("Claim")]
    notes = [part for part in rest if part.startswith(NOTES)]
    rows = [
        [
            check.claim,
            check.source or "theory",
            check.theory,
            shown(check) if check.values else f"{check.measured:.6g}",
            asked(check),
            VERDICTS[check.holds],
            *_elsewhere(others, n),
        ]
        for n, check in enumerate(checks)
    ]
    headers = ["claim", "source", beside, "ours", "asked", "borne out"]
    if others:
        headers.append(f"base seeds {', '.join(others)}")
    figures = sorted(file.stem for file in (kept / name).glob("*.png"))
    parts = [
        f"## {name}",
        f"**{first}** {_sentence(claim)}",
        _table(headers, rows),
        *notes,
        *(f"![{name}, {figure}]({where}/{name}/{figure}.png)" for figure in figures),
    ]
    if isinstance(result.get("arms"), Mapping):
        of_gradients = ["before → after training", "decay rate", "horizon", "λ₁"]
        parts += [IN_NATS, _table(of_gradients, gradient_rows(result["arms"]))]
    versions = record["versions"]
    words = ["python", "-m", f"experiments.{name}", *options_of(study, record["config"])]
    made = f"`{shlex.join(words)}`: {_minutes(record)} minutes on {record['devices']}"
    parts.append(f"{made}, JAX {versions['jax']}.")
    return "\n\n".join(parts)


def _other_seeds(folder: Path) -> dict[str, list[tuple[str, float, bool | None]]]:
    """Return claim, median and verdict of every check, by base seed."""
    file = folder / OTHER_SEEDS
    return json.loads(file.read_text()) if file.is_file() else {}


def _elsewhere(others: Mapping[str, Sequence[Any]], n: int) -> list[str]:
    """Return what other base seeds found of the check at this place: none, or one cell."""
    if not others:
        return []
    found = [checks[n] for checks in others.values()]
    borne_out = sum(bool(holds) for _, _, holds in found)
    return [f"{', '.join(f'{value:.4g}' for _, value, _ in found)}: {borne_out} of {len(found)}"]


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
    """Return minutes; of a run that was resumed, those of its last part alone are known."""
    return f"{'> ' if record.get('resumed') else ''}{record['seconds'] / 60:.1f}"


def _sentence(claim: Sequence[str]) -> str:
    return " ".join(part[:1].upper() + part[1:] for part in claim)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, of lines of any length."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(map(escaped, line))} |" for line in lines)
