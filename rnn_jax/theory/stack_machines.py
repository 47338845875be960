r"""Machines with stacks of bits, and how a bounded number holds a stack.

A stack of bits, b_1 on top, is one unit's activation:

.. math:: q = \sum_i (2 b_i + 1) / 4^i

so that the empty stack is 0, all others lie in [1/4, 1), and with σ(a) = min(1, max(0, a)) the top
is σ(4q − 2), whether there is one σ(4q), pushing b is q/4 + (2b + 1)/4 and popping it
4q − (2b + 1).

Reference: Siegelmann and Sontag, On the computational power of neural nets, Journal of Computer and
System Sciences 50 (1995), section 4.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from rnn_jax.errors import invalid

TOPS = ("*", "", "0", "1")
OPERATION = re.compile("-?[01]*")


class Rule(NamedTuple):
    """What a machine does in a state, with a symbol of input and these bits on top of its stacks.

    Attributes:
      state: where it applies.
      symbol: the input that it needs; None for any, or none.
      tops: for each stack "0" or "1", the bit on top; "" for an empty stack; "*" for any.
      next_state: state after it.
      operations: for each stack bits to push, the last one ending on top, "-" before them to pop
        one first: "" leaves a stack as it is, "-01" replaces its top by 0 and pushes 1.
    """

    state: str
    symbol: str | None
    tops: tuple[str, ...]
    next_state: str
    operations: tuple[str, ...]


class StackMachine(NamedTuple):
    """A deterministic machine with stacks of bits. Where no rule applies it halts, stacks empty.

    Attributes:
      rules: of which at most one applies at any time.
      start: state in which it starts, all stacks empty.
    """

    rules: tuple[Rule, ...]
    start: str

    @property
    def stacks(self) -> int:
        """Return the number of stacks."""
        return len(self.rules[0].tops)

    @property
    def states(self) -> tuple[str, ...]:
        """Return the names of all states."""
        ends = itertools.chain.from_iterable((rule.state, rule.next_state) for rule in self.rules)
        return tuple(dict.fromkeys((self.start, *ends)))

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return all symbols of input."""
        return tuple(dict.fromkeys(rule.symbol for rule in self.rules if rule.symbol is not None))


class Configuration(NamedTuple):
    """A machine at one time.

    Attributes:
      state: its name; "" where the machine has halted.
      stacks: the q of each stack, exactly: a fraction of denominator 4^d at depth d.
    """

    state: str
    stacks: tuple[Fraction, ...]


def run_stack_machine(machine: StackMachine, symbols: Sequence[str | None]) -> list[Configuration]:
    """Return the machine after each of its steps, in exact numbers: what its network has to be.

    Args:
      machine: any machine.
      symbols: input of each step, None for none. At one that no rule reads, the machine halts.

    Raises:
      ValueError: a machine that `stack_machine_network` refuses; symbols that are no sequence.
    """
    check_machine(machine)
    check_symbols(symbols)
    by_state: dict[str, list[Rule]] = {}
    for rule in machine.rules:
        by_state.setdefault(rule.state, []).append(rule)
    state, stacks, found = machine.start, [""] * machine.stacks, []
    for symbol in symbols:
        for rule in by_state.get(state, ()):
            tops_fit = all(t in ("*", s[-1:]) for t, s in zip(rule.tops, stacks, strict=True))
            if tops_fit and rule.symbol in (None, symbol):
                state = rule.next_state
                stacks = [
                    (s[:-1] if o.startswith("-") else s) + o.lstrip("-")
                    for s, o in zip(stacks, rule.operations, strict=True)
                ]
                break
        else:
            state, stacks = "", [""] * machine.stacks
        found.append(Configuration(state, tuple(map(encode_stack, stacks))))
    return found


def encode_stack(bits: str) -> Fraction:
    """Return q of a stack, exactly.

    Args:
      bits: its bits, the top one last.

    Raises:
      ValueError: something that is no text of 0 and 1.
    """
    if not isinstance(bits, str) or set(bits) - set("01"):
        raise invalid("bits", bits, "a text of 0 and 1", 'Pass "", "0110" and so on.')
    q = Fraction(0)
    for bit in bits:
        q = q / 4 + Fraction(2 * int(bit) + 1, 4)
    return q


def turing_machine(
    table: Mapping[tuple[str, int], tuple[int, str, str]], start: str
) -> StackMachine:
    """Return a Turing machine with one tape of bits as a machine with two stacks.

    The first stack is the tape to the left of the head, the second one begins at the head; what is
    not on them is 0. A step is one step of the stack machine.

    Args:
      table: (state, bit read) -> (bit written, "L" or "R", next state).
      start: state in which it starts, on an empty tape.

    Returns:
      The machine; in a state that the table does not have, it stays for ever.

    Raises:
      ValueError: a table that is none, or that says nothing of the start.
    """
    if not isinstance(table, Mapping):
        raise invalid("table", table, "a mapping", "Pass {(state, bit): (bit, move, next state)}.")
    rules = []
    for entry, action in table.items():
        try:
            (state, bit), (write, move, after) = entry, action
            fits = bit in (0, 1) and write in (0, 1) and move in ("L", "R")
        except (TypeError, ValueError):
            fits = False
        if not fits:
            expected = "(state, bit): (bit, 'L' or 'R', next state)"
            raise invalid("table", f"{entry!r}: {action!r}", expected, "Write bits as 0 and 1.")
        for head in ("", "0") if bit == 0 else ("1",):
            pop = "-" if head else ""
            if move == "R":
                rules.append(Rule(state, None, ("*", head), after, (str(write), pop)))
            else:
                for left in TOPS[1:]:
                    onto = f"{pop}{write}{left or 0}"
                    operations = ("-" if left else "", onto)
                    rules.append(Rule(state, None, (left, head), after, operations))
    if start not in {rule.state for rule in rules}:
        remedy = "Write what the machine does in it."
        raise invalid("start", start, "a state of which the table has an entry", remedy)
    ends = {rule.next_state for rule in rules} - {rule.state for rule in rules}
    rules += [Rule(end, None, ("*", "*"), end, ("", "")) for end in sorted(ends, key=str)]
    return StackMachine(tuple(rules), start)


def check_machine(machine: StackMachine) -> None:
    """Raise ValueError for a machine that is none or not deterministic."""
    if not isinstance(machine, StackMachine) or not machine.rules:
        raise invalid("machine", machine, "a StackMachine with rules", "Write one rule at least.")
    _check_name(machine, machine.start)
    for rule in machine.rules:
        if not isinstance(rule, Rule):
            raise invalid("machine", rule, "Rules", "Write Rule(state, symbol, ...).")
        _check_name(rule, rule.state)
        _check_name(rule, rule.next_state)
        lists = (rule.tops, rule.operations)
        fits = all(isinstance(each, tuple | list) for each in lists)
        fits = fits and len(rule.tops) == len(rule.operations) == machine.stacks > 0
        fits = fits and all(isinstance(text, str) for text in (*rule.tops, *rule.operations))
        fits = fits and all(top in TOPS for top in rule.tops)
        if not fits or not all(map(OPERATION.fullmatch, rule.operations)):
            expected = f"tops of {TOPS}, and operations as '', '-', '01', '-1', for every stack"
            raise invalid("machine", f"{rule}", expected, "Write one of each for each stack.")
        for top, operation in zip(rule.tops, rule.operations, strict=True):
            if operation.startswith("-") and top not in ("0", "1"):
                remedy = "Write a rule for each top of a stack that is popped."
                raise invalid("machine", f"{rule}", "a known bit on top of what it pops", remedy)
    for one, two in itertools.combinations(machine.rules, 2):
        symbols_meet = None in (one.symbol, two.symbol) or one.symbol == two.symbol
        tops = zip(one.tops, two.tops, strict=True)
        tops_meet = all("*" in pair or pair[0] == pair[1] for pair in tops)
        if one.state == two.state and symbols_meet and tops_meet:
            raise invalid("machine", f"{one} and {two}", "one rule at a time", "Tell them apart.")


def _check_name(of: Any, name: Any) -> None:
    """Raise ValueError unless `name` is one that a state may have."""
    if not isinstance(name, str) or not name:
        raise invalid("machine", f"{of}", "states with names", '"" stands for none.')


def check_symbols(symbols: Any) -> None:
    """Raise ValueError unless `symbols` is a sequence."""
    if not isinstance(symbols, Sequence):
        raise invalid("symbols", symbols, "a sequence, a symbol a step", "Pass [None] * steps.")
