"""`python -m experiments`: every study is in the list, with its claim and its time."""

import re
import subprocess
import sys
from pathlib import Path

import experiments
from experiments import __main__ as listing
from experiments.common.collections import COLLECTIONS
from experiments.common.docstring import first_sentence, parts_in, parts_of
from experiments.reproduce import study_of
from experiments.sweep import names

FOLDER = Path(experiments.__file__).parent


def test_every_module_is_listed_once():
    listed = [name for group in listing.GROUPS.values() for name in group]
    assert sorted(listed) == sorted(f.stem for f in FOLDER.glob("*.py") if f.stem[0] != "_")
    in_collections = [name for each in COLLECTIONS.values() for name in each.studies]
    assert sorted([*in_collections, "gradient_decay", "train"]) == names()


def test_the_list_has_claims_and_times():
    command = [sys.executable, "-m", "experiments"]
    said = subprocess.run(
        command, cwd=FOLDER.parent, check=True, capture_output=True, text=True
    ).stdout
    assert max(map(len, said.splitlines())) <= 100
    for name in names():
        doc = study_of(name).doc
        (entry,) = (part for part in said.split("\n\n") if re.match(rf"{name}\b", part))
        first, *rest = entry.splitlines()
        assert re.fullmatch(rf"{name}   .*(minutes?|seconds)\b.*", first), first
        told = " ".join(" ".join(rest).split())
        headline, claim, _ = parts_of(doc)
        assert told == f"{headline} {first_sentence(claim)}"
        assert len(first_sentence(claim)) > 30


def test_parts_of_a_docstring():
    doc = "A.\n\nClaim: b\n  is b. It is.\n\n    python -m c\n\nUnder a minute.\n"
    assert parts_of(doc) == ("A.", "Claim: b is b. It is.", "Under a minute.")
    assert first_sentence("Claim: b is 0.5 b. It is.") == "Claim: b is 0.5 b."
    assert parts_of("") == ("", "", "")
    assert parts_in(FOLDER / "common" / "__init__.py").headline.startswith("What all studies")
