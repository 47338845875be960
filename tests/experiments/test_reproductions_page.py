"""Pages of verdicts are what their kept runs say; reproductions fail where these say else."""

import re
from pathlib import Path

import numpy as np
import pytest

from experiments import reproduce
from experiments.common.collections import COLLECTIONS, PUBLISHED
from experiments.common.numbers import flatten, nest
from experiments.common.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
KEPT = ROOT / PUBLISHED.keep

none, every = np.zeros_like, np.ones_like
far = lambda values: 1e3 * np.abs(values) + 1e3

# Of each study: numbers that are others (by the end of their path), what they become, and claims
# that fail then.
WRONG = {
    "temporal_order": [
        (r"/clipped/.*solved", none, ["clipped less SGD"]),
        (r"/clipped, Ω/.*solved", none, ["Ω less clipped", "T = 10: seeds", "T = 30: seeds"]),
        (r"far/right", none, ["T = 300: right"]),
    ],
    "clipping": [
        (r"by norm/solved", none, ["thresholds of 0.5 to 10", "best threshold less none"]),
        (r"by value/solved", none, ["by value, best threshold less none"]),
        (r"by norm/before", none, ["largest norm of a training without"]),
        (r"by norm/after", far, ["largest norm after clipping / threshold"]),
        (r"by norm/path", far, ["path / (learning rate"]),
        (r"by value/after", far, ["by value / (threshold"]),
        (r"by norm/distance", far, ["distance from the start / path"]),
    ],
    "adding": [
        (r"LSTM, forget bias 1/T = 100/.*solved", none, ["LSTM, T = 100: seq", "seeds that"]),
        (r"IRNN/.*held_out/loss", far, ["IRNN"]),
        (r"coRNN/.*held_out/loss", far, ["coRNN"]),
        (r"Elman/.*held_out/loss", none, ["Elman"]),
    ],
    "copying": [
        (r"(orthogonal|LRU)/.*held_out/loss", far, ["orthogonal or LRU"]),
        (r"Elman/.*held_out/loss", none, ["Elman"]),
    ],
    "lstm_1997": [
        (r"Reber/LSTM.*solved", none, ["Reber: sequences", "Reber: seeds that solve it, the bet"]),
        (r"Reber/Elman.*solved", every, ["Reber: seeds that solve it, Elman"]),
        (r"order/LSTM.*solved", none, ["order: sequences", "order: seeds that solve it, the bet"]),
        (r"order/Elman.*solved", every, ["order: seeds that solve it, Elman"]),
    ],
    "sequential_digits": [
        (r"pixel by pixel.*solved", none, ["pixel by pixel, best"]),
        (r"permuted.*solved", none, ["permuted, best"]),
    ],
    "vowels": [(r"solved", none, ["LSTM: accuracy", "best cell"])],
    "chorales": [
        (r"(Elman|LSTM.*|GRU|LRU)/.*held_out/loss", far, ["the best: nats"]),
        (r"the present alone/.*held_out/loss", far, ["the present alone: nats"]),
    ],
    "char_lm": [
        (
            r"(LSTM.*|GRU|Elman|LRU)/.*held_out/loss",
            far,
            [f"less those of {name}" for name in ("the present", "frequencies", "bz2", "lzma")],
        ),
        (r"(LSTM.*|GRU)/.*held_out/loss", far, ["better gated"]),
    ],
    "state_tracking": [
        (r"accuracy/parity/(minGRU|RG-LRU|Mamba|.*\[0, 1\])", every, ["parity of 80 steps, "]),
        (r"accuracy/parity/.*", none, ["−1, 1]: right", "LSTM: right", "best cell: right"]),
        (r"accuracy/S₃/LSTM", none, ["S₃, 80 steps, LSTM"]),
        (r"accuracy/S₃/(minGRU|RG-LRU|Mamba|.*\[0, 1\])", every, ["S₃, 80 steps, "]),
    ],
    "turing": [
        (r"machines/.*first_wrong", lambda at: at + 1, ["first wrong step", "deepest stack"]),
        (r"machines/.*same_answer", none, ["answered right"]),
        (r"tapes/.*wrong", every, ["not the tape"]),
        (r"tapes/.*(halted|ones)", lambda n: n + 1, ["halts after", "ones on its tape"]),
    ],
    "parameter_sharing": [
        (r"training_accuracy", none, ["on the training set"]),
        (r"/accuracy", none, ["fresh sentences", "where no year stood", "elsewhere, over"]),
        (r"specific.*/accuracy", lambda part: part + 1, ["less position-specific", "there, over"]),
        (r"answers", none, ["years named"]),
    ],
    "gradient_claims": [(r"decay_rate", lambda rate: np.abs(rate) + 1, ["decay rate"])],
}


@pytest.fixture(scope="module")
def kept():
    """Returns numbers and checks of a kept run."""
    runs = {}

    def of(name):
        if name not in runs:
            _, result = RunFolder(KEPT / name).read()
            runs[name] = flatten(result), reproduce.study_of(name).checks(result)
        return runs[name]

    return of


@pytest.mark.parametrize("studies", COLLECTIONS)
def test_the_page_is_of_its_runs(studies):
    collection = COLLECTIONS[studies]
    page, kept = ROOT / collection.page, ROOT / collection.keep
    assert {path.name for path in kept.iterdir()} == set(collection.studies)
    assert page.read_text() == reproduce.page_kept(collection, kept, page.parent)
    # The settings are those of the command, and no figure is missing.
    settings = reproduce.Reproduce(
        studies=studies, only=tuple(collection.studies), out=collection.out
    )
    for name in collection.studies:
        record, result = RunFolder(kept / name).read()
        (config,) = reproduce.configs_of(settings, name)
        of_study = reproduce.settings_of(config)
        assert record["config"] == {key: of_study[key] for key in record["config"]}
        drawn = {path.stem for path in (kept / name).glob("*.png")}
        assert drawn == set(reproduce.study_of(name).plot(result))


@pytest.mark.parametrize("name", PUBLISHED.studies)
def test_every_claim_fails_on_other_numbers(name, kept):
    numbers, found = kept(name)
    assert found
    assert [check.claim for check in found if check.holds is None] == []
    failing = set()
    for pattern, wrong, claims in WRONG[name]:
        others = {
            path: wrong(np.asarray(value))
            for path, value in numbers.items()
            if re.search(f"{pattern}$", path)
        }
        assert others, pattern
        failed = [
            check.claim
            for check in reproduce.study_of(name).checks(nest(numbers | others))
            if not check.holds
        ]
        for claim in claims:
            assert any(claim in each for each in failed), (pattern, claim, failed)
        failing |= {_name(each) for each in failed}
    assert [check.claim for check in found if _name(check.claim) not in failing] == []


def _name(claim):
    """A claim without the name of the best cell, which is another one of other numbers."""
    return re.sub(r"^[^:]*, (?=the best:)|\(.*?\)", "", claim)
