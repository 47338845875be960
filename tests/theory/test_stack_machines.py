"""Networks that run machines, against the machines, and these against other ways to compute."""

import itertools
import random
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from experiments.turing import A_N_B_N, BRACKETS, TABLES
from rnn_jax import theory
from rnn_jax.theory import Rule, StackMachine


def networks_way(machine, words, dtype=jnp.float32):
    """Return the configurations of each word, all run in one batch."""
    network = theory.stack_machine_network(machine, dtype)
    longest = max(map(len, words))
    xs = [network.inputs([*word, *[None] * (longest - len(word))]) for word in words]
    _, ys = rnn_jax.unroll(network.cell, network.params, jnp.stack(xs, 1))
    return [network.configurations(ys[:, n])[: len(word)] for n, word in enumerate(words)]


def random_machine(seed):
    """A machine of up to 3 stacks and 4 states, of which each rule does anything that it may."""
    draw = random.Random(seed)
    stacks, states = draw.randint(1, 3), "ABCD"[: draw.randint(1, 4)]
    rules = []
    for state, symbol in itertools.product(states, (None, "x") if seed % 3 else ("x", "y")):
        if symbol is None and draw.random() < 0.5:
            continue
        watched = [draw.random() < 0.8 for _ in range(stacks)]
        for tops in itertools.product(*[("", "0", "1") if w else ("*",) for w in watched]):
            operations = []
            for top in tops:
                pop = "-" if top in ("0", "1") and draw.random() < 0.7 else ""
                operations.append(pop + "".join(draw.choices("01", k=draw.choice((0, 1, 1, 2)))))
            rules.append(Rule(state, symbol, tops, draw.choice(states), tuple(operations)))
        if symbol is None:
            break  # it reads nothing in this state
    rules = [r for r in rules if not (r.symbol and any(o[:2] == (r[0], None) for o in rules))]
    return StackMachine(tuple(rules) or A_N_B_N.rules, rules[0].state if rules else "count")


@pytest.mark.parametrize("seed", range(40))
def test_a_network_is_its_machine_until_a_stack_does_not_fit(seed):
    machine, draw = random_machine(seed), random.Random(seed)
    symbols = [*machine.symbols, *([None] if seed % 2 else [])] or [None]
    words = [draw.choices(symbols, k=draw.randint(1, 40)) for _ in range(5)]
    fits = lambda c: all(q.numerator.bit_length() <= 24 for q in c.stacks)
    for word, found in zip(words, networks_way(machine, words), strict=True):
        wanted = theory.run_stack_machine(machine, word)
        exact = list(itertools.takewhile(fits, wanted))
        assert found[: len(exact)] == exact
        if len(exact) < len(wanted):
            assert found[len(exact)] != wanted[len(exact)]


def test_languages_are_those_of_other_recognizers():
    words = ["".join(w) for n in range(7) for w in itertools.product("ab", repeat=n)]
    found = networks_way(A_N_B_N, [[*word, "$"] for word in words])
    accepted = {w for w, f in zip(words, found, strict=True) if f[-1].state == "accept"}
    assert accepted == {"", "ab", "aabb", "aaabbb"}
    words = ["".join(w) for n in range(7) for w in itertools.product("()[]", repeat=n)]

    def balanced(word):
        shorter = re.sub(r"\(\)|\[\]", "", word)
        return not word if shorter == word else balanced(shorter)

    found = networks_way(BRACKETS, [[*word, "$"] for word in words])
    assert [f[-1].state == "accept" for f in found] == list(map(balanced, words))


def test_a_turing_machine_runs_on_two_stacks():
    """The busy beaver of 4 states, against its tape: 107 steps, 13 ones."""
    table = TABLES["busy beaver of 4 states"]
    machine = theory.turing_machine(table, "A")
    (found,) = networks_way(machine, [[None] * 110], jnp.float64)
    tape, head, state = {}, 0, "A"
    for n, (got, (left, right)) in enumerate(found):
        if state != "H":
            tape[head], move, state = table[state, tape.get(head, 0)]
            head += 1 if move == "R" else -1
            steps = n + 1
        assert got == state
        cells = lambda places: "".join(str(tape.get(place, 0)) for place in places)
        # Both ends of a stack are cells of the tape; zeros below its bits say nothing.
        assert strip(left) == cells(range(head - 20, head)).lstrip("0")
        assert strip(right) == cells(range(head + 19, head - 1, -1)).lstrip("0")
    assert (steps, sum(tape.values())) == (107, 13)


def strip(q):
    bits = ""
    while q:
        bit = int(q >= Fraction(1, 2))
        bits, q = f"{bit}{bits}", 4 * q - (2 * bit + 1)
    return bits.lstrip("0")


def test_encoding():
    assert theory.encode_stack("") == 0
    for bits in map("".join, itertools.product("01", repeat=5)):
        digits = [Fraction(2 * int(b) + 1, 4**i) for i, b in enumerate(reversed(bits), 1)]
        assert theory.encode_stack(bits) == sum(digits)
    with pytest.raises(ValueError, match=r"^bits: got .*; expected a text of 0 and 1"):
        theory.encode_stack("012")


@pytest.mark.parametrize("strategy", ["scan", "fused", "auto"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_half_of_the_digits_are_bits_in_every_dtype(dtype, strategy):
    deepest = (jnp.finfo(dtype).nmant + 1) // 2
    network = theory.stack_machine_network(A_N_B_N, dtype)
    xs = network.inputs(["a"] * (deepest + 1))
    assert xs.dtype == dtype
    ys = jax.jit(lambda xs: rnn_jax.unroll(network.cell, network.params, xs, strategy=strategy)[1])
    found = network.configurations(ys(xs))
    wanted = theory.run_stack_machine(A_N_B_N, ["a"] * (deepest + 1))
    assert [f == w for f, w in zip(found, wanted, strict=True)] == [True] * deepest + [False]
    for weights in jax.tree.leaves(network.params):
        assert all(Fraction(w).denominator in (1, 2, 4) for w in np.ravel(weights).tolist())


ONE = Rule("A", "a", ("*",), "A", ("1",))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), "a StackMachine with rules"),
        ((ONE._replace(operations=("2",)),), "tops of"),
        ((ONE._replace(tops=("x",)),), "tops of"),
        ((ONE, ONE._replace(tops=("*", "*"))), "tops of"),
        ((ONE._replace(tops=(), operations=()),), "tops of"),
        ((ONE._replace(operations=("-",)),), "a known bit on top"),
        ((ONE._replace(tops=("",), operations=("-",)),), "a known bit on top"),
        ((ONE._replace(next_state=""),), "states with names"),
        ((ONE._replace(state=1),), "states with names"),
        ((ONE._replace(tops=None),), "tops of"),
        ((ONE._replace(operations=(1,)),), "tops of"),
        ((tuple(ONE),), "Rules"),
        ((ONE, ONE._replace(next_state="B")), "one rule at a time"),
        ((ONE, ONE._replace(symbol=None, tops=("1",))), "one rule at a time"),
    ],
)
def test_a_machine_that_is_none_is_refused(rules, expected):
    for use in (theory.stack_machine_network, lambda m: theory.run_stack_machine(m, ["a"])):
        with pytest.raises(ValueError, match=rf"^machine: got .*; expected {expected}"):
            use(StackMachine(rules, "A"))


def test_names_and_signs_of_any_kind():
    """Names of units, and the signs of rules, are as good names as others."""
    names = ("stack 0", "*", "next top 0")
    rules = [Rule(n, "*", ("*",), m, ("1",)) for n, m in itertools.pairwise([*names, names[0]])]
    rules += [Rule(n, "-", ("1",), n, ("-",)) for n in names]
    machine, word = StackMachine(tuple(rules), "*"), [*"***-*--", None, *"**"]
    assert networks_way(machine, [word]) == [theory.run_stack_machine(machine, word)]
    assert theory.run_stack_machine(machine, word)[6].state == "next top 0"


def test_rules_that_a_dtype_cannot_count_are_refused():
    """256 ones are counted in bfloat16, 257 are not, though 300, a weight then, is one of its."""
    machine = lambda count: StackMachine(
        tuple(Rule("A", f"{n}", ("*",), "A", ("1",)) for n in range(count)), "A"
    )
    word = ["5", "255", "0"]
    found = networks_way(machine(256), [word], jnp.bfloat16)
    assert found == [theory.run_stack_machine(machine(256), word)]
    for count in (257, 300):
        with pytest.raises(ValueError, match=r"^dtype: got bfloat16; expected one that holds"):
            theory.stack_machine_network(machine(count), jnp.bfloat16)


def test_weights_that_a_dtype_cannot_hold_are_refused():
    machine = StackMachine((ONE._replace(operations=("01" * 5,)),), "A")
    assert networks_way(machine, [["a"]]) == [theory.run_stack_machine(machine, ["a"])]
    with pytest.raises(ValueError, match=r"^dtype: got float16; expected one that holds"):
        theory.stack_machine_network(machine, jnp.float16)


def test_what_a_network_is_asked_has_to_fit():
    network = theory.stack_machine_network(A_N_B_N)
    with pytest.raises(ValueError, match=r"^symbols: got .*; expected of a, b, \$, or None"):
        network.inputs(["c"])
    for ys in (jnp.zeros((3, 2)), jnp.zeros((4, 20)), jnp.zeros((3, 2, 20))):
        with pytest.raises(ValueError, match=r"^ys: got float.*; expected \[a multiple of 3, 20\]"):
            network.configurations(ys)
    with pytest.raises(ValueError, match=r"^ys: got some that are not finite"):
        network.configurations(jnp.full((3, 20), jnp.nan))
    for use in (network.inputs, lambda symbols: theory.run_stack_machine(A_N_B_N, symbols)):
        assert len(use([])) == 0
        with pytest.raises(ValueError, match=r"^symbols: got .*; expected a sequence"):
            use(3)
    for table in ({}, {("B", 0): (1, "R", "A")}):
        with pytest.raises(ValueError, match=r"^start: got A; expected a state of which"):
            theory.turing_machine(table, "A")
    with pytest.raises(ValueError, match=r"^table: got .*; expected a mapping"):
        theory.turing_machine([1], "A")
    with pytest.raises(ValueError, match=r"^machine: got .*; expected states with names"):
        theory.stack_machine_network(StackMachine((ONE,), ""))
    for table in ({("A", 0): (2, "R", "A")}, {("A", 0): (1, "up", "A")}, {"A": (1, "R", "A")}):
        with pytest.raises(ValueError, match=r"^table: got .*; expected \(state, bit\)"):
            theory.turing_machine(table, "A")
