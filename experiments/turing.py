"""A recurrent network that computes what a machine computes, and what precision costs it.

Claim: an Elman network of saturated-linear units with rational weights, built and not trained, is a
machine with two stacks and so any Turing machine (Siegelmann and Sontag 1995): every state and
every stack, step by step, is that of an ordinary simulator in exact numbers. A stack of d bits is
one activation of 2d binary digits, so this holds as long as d is at most half the digits of the
dtype's mantissa, rounded down: 12 bits in float32, 26 in float64; the first step at which a stack
does not fit is known beforehand, and is the first one at which the network is wrong.

Machines: a^n b^n; brackets of two kinds; the busy beavers of 4 and 5 states (107 steps, and the
first steps of 47,176,870). Words are balanced ones and ones that are not.

    python -m experiments.turing [--out FOLDER]
    python -m experiments.turing plot FOLDER

About half a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from experiments.common.checks import Check, at_least, at_most, judged_if, within
from experiments.common.numbers import Result
from experiments.common.progress import progress
from experiments.common.report import paragraph, table
from experiments.common.settings import Seed, Settings, Size
from experiments.common.study import Study
from experiments.figures import turing as figures
from rnn_jax import theory
from rnn_jax.theory import Configuration, Rule, StackMachine

DTYPES = ("bfloat16", "float16", "float32", "float64")
END = "$"

A_N_B_N = StackMachine(
    (
        Rule("count", "a", ("*",), "count", ("1",)),
        Rule("count", "b", ("1",), "match", ("-",)),
        Rule("match", "b", ("1",), "match", ("-",)),
        Rule("count", END, ("",), "accept", ("",)),
        Rule("match", END, ("",), "accept", ("",)),
    ),
    "count",
)
BRACKETS = StackMachine(
    (
        Rule("read", "(", ("*",), "read", ("0",)),
        Rule("read", "[", ("*",), "read", ("1",)),
        Rule("read", ")", ("0",), "read", ("-",)),
        Rule("read", "]", ("1",), "read", ("-",)),
        Rule("read", END, ("",), "accept", ("",)),
    ),
    "read",
)
TABLES = {
    # Brady 1983: 107 steps, 13 ones.
    "busy beaver of 4 states": {
        ("A", 0): (1, "R", "B"),
        ("A", 1): (1, "L", "B"),
        ("B", 0): (1, "L", "A"),
        ("B", 1): (0, "L", "C"),
        ("C", 0): (1, "R", "H"),
        ("C", 1): (1, "L", "D"),
        ("D", 0): (1, "R", "D"),
        ("D", 1): (0, "R", "A"),
    },
    # Marxen and Buntrock 1990: 47,176,870 steps.
    "busy beaver of 5 states": {
        ("A", 0): (1, "R", "B"),
        ("A", 1): (1, "L", "C"),
        ("B", 0): (1, "R", "C"),
        ("B", 1): (1, "R", "B"),
        ("C", 0): (1, "R", "D"),
        ("C", 1): (0, "L", "E"),
        ("D", 0): (1, "L", "A"),
        ("D", 1): (1, "L", "D"),
        ("E", 0): (1, "R", "H"),
        ("E", 1): (0, "L", "A"),
    },
}
"""Turing machines: (state, bit) -> (bit written, direction, next state)."""
BEAVER_STEPS, BEAVER_ONES = 107, 13
"""Of the busy beaver of 4 states."""


@dataclass(frozen=True)
class Config(Settings):
    """What the machines are given."""

    out: Path = Path("runs/turing")
    """The run folder."""
    longest: Size = 40
    """Largest n of a^n b^n; depth of the deepest brackets."""
    words: Size = 60
    """Words of brackets."""
    beaver_steps: Size = 3000
    """Steps of the busy beaver of 5 states."""
    seed: Seed = 0
    """PRNG seed of the brackets."""


def measure(config: Config) -> Result:
    """Return when each machine's network is first wrong, by dtype and word."""
    brackets = bracket_words(np.random.default_rng(config.seed), config.words, config.longest)
    jobs: dict[str, tuple[StackMachine, list[list[str | None]]]] = {
        "a^n b^n": (A_N_B_N, [[*word, END] for word in counted_words(config.longest)]),
        "brackets of two kinds": (BRACKETS, [[*word, END] for word in brackets]),
    }
    for (name, of), steps in zip(
        TABLES.items(), (BEAVER_STEPS + 3, config.beaver_steps), strict=True
    ):
        jobs[name] = theory.turing_machine(of, "A"), [[None] * steps]
    machines = {}
    for name, (machine, words) in progress(list(jobs.items()), "machines"):
        machines[name] = _compare(machine, words)
    tapes = {name: _tape_errors(name, machines[name]["stacks_as_bits"]) for name in TABLES}
    for each in machines.values():
        del each["stacks_as_bits"]
    return {"machines": machines, "tapes": tapes, "example": _example()}


def counted_words(longest: int) -> list[str]:
    """Return a^n b^m for n up to `longest` and m = n, n ± 1."""
    return ["a" * n + "b" * m for n in range(longest + 1) for m in (n - 1, n, n + 1) if m >= 0]


def bracket_words(generator: np.random.Generator, count: int, deepest: int) -> list[str]:
    """Return words of two kinds of brackets, of growing depths, every second one with an error."""
    words = []
    for n in range(count):
        depth, word = 1 + n * deepest // count, ""
        open_ones: list[int] = []
        while len(open_ones) < depth:  # more often in than out, to the depth
            if open_ones and generator.random() < 0.2:
                word += ")]"[open_ones.pop()]
            else:
                open_ones.append(int(generator.integers(2)))
                word += "(["[open_ones[-1]]
        word += "".join(")]"[kind] for kind in reversed(open_ones))
        if n % 2:
            place = int(generator.integers(len(word)))
            others = sorted(set("()[]") - {word[place]})
            word = word[:place] + others[int(generator.integers(3))] + word[place + 1 :]
        words.append(word)
    return words


def _compare(machine: StackMachine, words: Sequence[Sequence[str | None]]) -> dict[str, np.ndarray]:
    """Return, by word `[words]` or dtype and word `[dtypes, words]`, when networks are wrong.

    `first_wrong` is the first step at which the state or a stack is not the simulator's, and
    `predicted` the first one at which a stack does not fit the mantissa; −1 for none. `depth`
    `[words, steps]` is that of the deeper stack, −1 past the word's end.
    """
    wanted = [theory.run_stack_machine(machine, word) for word in words]
    steps = max(map(len, words))
    of: dict[str, list[list[int]]] = {"first_wrong": [], "predicted": [], "same_answer": []}
    units = 0
    for dtype in DTYPES:
        with jax.enable_x64(dtype == "float64"):
            network = theory.stack_machine_network(machine, dtype)
            padded = [[*word, *[None] * (steps - len(word))] for word in words]
            xs = jnp.stack([network.inputs(word) for word in padded], 1)
            ys = rnn_jax.unroll(network.cell, network.params, xs)[1]
        units, digits = len(network.units), jnp.finfo(dtype).nmant + 1
        found = [network.configurations(ys[:, n])[: len(word)] for n, word in enumerate(words)]
        pairs = list(zip(found, wanted, strict=True))
        wrong = [[f != w for f, w in zip(*pair, strict=True)] for pair in pairs]
        too_deep = [[not _fits(w, digits) for w in word] for word in wanted]
        of["first_wrong"].append(list(map(_first, wrong)))
        of["predicted"].append(list(map(_first, too_deep)))
        same = [f[-1].state == w[-1].state for f, w in pairs]
        of["same_answer"].append(list(map(int, same)))
    depth = np.full((len(words), steps), -1)
    for n, word in enumerate(wanted):
        depth[n, : len(word)] = [max(map(_depth, each.stacks)) for each in word]
    return {
        **{name: np.array(values) for name, values in of.items()},
        "depth": depth,
        "accepted": np.array([word[-1].state == "accept" for word in wanted]),
        "units": np.array(units),
        "stacks_as_bits": np.array(
            [[*map(_bits, each.stacks), each.state] for each in wanted[0]],
        ),
    }


def _first(flags: Sequence[bool]) -> int:
    return flags.index(True) if True in flags else -1


def _fits(configuration: Configuration, digits: int) -> bool:
    """Return whether every q = odd / 4^d has a numerator of at most so many binary digits."""
    return all(q.numerator.bit_length() <= digits for q in configuration.stacks)


def _depth(q) -> int:
    """Return d of q = odd / 4^d."""
    return (q.denominator.bit_length() - 1) // 2


def _bits(q) -> str:
    """Return the bits of a stack, the top one last."""
    bits = ""
    while q:
        bit = int(q >= 0.5)
        bits, q = str(bit) + bits, 4 * q - (2 * bit + 1)
    return bits


def _tape_errors(name: str, of_word: np.ndarray) -> dict[str, np.ndarray]:
    """Return how often the two stacks are not the tape of a plain Turing machine; its end."""
    tape: dict[int, int] = {}
    head, state = 0, "A"
    table, wrong, halted = TABLES[name], 0, -1
    for n, (left, right, found) in enumerate(of_word):
        if (state, tape.get(head, 0)) in table:
            tape[head], move, state = table[state, tape.get(head, 0)]
            head += 1 if move == "R" else -1
            halted = n + 1 if state == "H" else -1
        read = lambda text, cells: all(
            tape.get(cell, 0) == int(text[-1 - n]) if n < len(text) else tape.get(cell, 0) == 0
            for n, cell in enumerate(cells)
        )
        reach = len(tape) + 1
        same = read(left, range(head - 1, head - reach, -1))
        same &= read(right, range(head, head + reach)) and state == found
        wrong += not same
    return {
        "wrong": np.array(wrong),
        "halted": np.array(halted),
        "ones": np.array(sum(tape.values())),
    }


def _example() -> dict[str, np.ndarray]:
    """Return the network of a^n b^n and its activations on aaabbb$."""
    network = theory.stack_machine_network(A_N_B_N)
    word = [*"aaabbb", END]
    ys = rnn_jax.unroll(network.cell, network.params, network.inputs(word))[1]
    return {
        "units": np.array(network.units),
        "symbols": np.array(A_N_B_N.symbols),
        "word": np.array(word),
        "W": np.asarray(network.params.W),
        "U": np.asarray(network.params.U),
        "activations": np.asarray(ys),
    }


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    machines = result["machines"]
    found = []
    for d, dtype in enumerate(DTYPES):
        apart = [m["first_wrong"][d] - m["predicted"][d] for m in machines.values()]
        claim = f"{dtype}: first wrong step less predicted one, all words of all machines, largest"
        found.append(at_most(claim, np.abs(np.concatenate(apart)).max(), 0))
    counted = machines["a^n b^n"]
    for dtype, deepest in (("float32", 12), ("float64", 26)):
        claim = f"{dtype}: deepest stack of a^n b^n that is right"
        check = within(claim, exact(counted, dtype), deepest, 0)
        found += judged_if(counted["depth"].max() > deepest, f"n > {deepest}", [check])
    kept = DTYPES.index("float64")
    shallow = [m["depth"].max(1) <= 26 for m in machines.values()]
    right = [m["same_answer"][kept][ok] for m, ok in zip(machines.values(), shallow, strict=True)]
    claim = "float64: words up to depth 26 that are answered right"
    found.append(at_least(claim, np.mean(np.concatenate(right)), 1))
    for name, tape in result["tapes"].items():
        claim = f"{name}: steps at which the stacks are not the tape"
        found.append(at_most(claim, tape["wrong"], 0))
    beaver = result["tapes"]["busy beaver of 4 states"]
    return [
        *found,
        within("busy beaver of 4 states: halts after", beaver["halted"], BEAVER_STEPS, 0),
        within("busy beaver of 4 states: ones on its tape", beaver["ones"], BEAVER_ONES, 0),
    ]


def exact(machine: Result, dtype: str) -> int:
    """Return the deepest stack before a machine's network is first wrong, of all words."""
    first = machine["first_wrong"][DTYPES.index(dtype)]
    ends = np.where(first < 0, machine["depth"].shape[1], first)
    rows = zip(machine["depth"], ends, strict=True)
    return max(int(row[:end].max(initial=0)) for row, end in rows)


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    rows = []
    for name, machine in result["machines"].items():
        deep, size = machine["depth"].max(), len(machine["depth"])
        for d, dtype in enumerate(DTYPES):
            first = machine["first_wrong"][d]
            wrong = first[first >= 0]
            right = machine["same_answer"][d].sum()
            rows.append(
                [
                    f"{name} ({int(machine['units'])} units), {dtype}",
                    f"{exact(machine, dtype)} of {deep}",
                    f"{wrong.min()}" if len(wrong) else "all",
                    f"{right} of {size}",
                ]
            )
    shown = table(rows, ["machine, dtype", "exact to depth", "steps right", "same end"])
    told = paragraph(
        "Exact: state and all stacks are those of the simulator, up to the first step at which a "
        "stack of d bits, q = odd / 4^d, does not fit the dtype; steps right: fewest of a word. "
        "Same end: words after which the network is in the simulator's state, be its stacks wrong "
        "or not. A step of a machine is three of its network."
    )
    return f"# Turing\n\n{shown}\n\n{told}"


def plot(result: Result) -> dict[str, figures.Figure]:
    """Return every figure, from the result alone."""
    return {
        "network": figures.network(result["example"]),
        "precision": figures.precision(result["machines"], DTYPES),
    }


STUDY = Study(__doc__, Config, measure, checks, summarize, plot)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
