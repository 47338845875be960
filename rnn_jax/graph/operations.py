"""From a program's equations to the operations that a person would draw.

Reshapes, broadcasts, casts and splits are looked through, additions are one sum, constants go into
an operation's sign (`1 −`), and what nothing reads is left out. Splits are pushed through
elementwise operations as far as they lead somewhere: a σ of stacked gates is one σ for each gate,
and a part of a concatenation is read by itself, so that dependence is exact to the slice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rnn_jax.graph.calls import composite
from rnn_jax.graph.signs import ELEMENTWISE, NO_GRADIENT, TRANSPARENT, marks, sign
from rnn_jax.transforms.program import Equation, Place, Program

Span = tuple[int, int] | None
"""A slice of a vector; None for all of a value."""


class Value(NamedTuple):
    """All of the value at a place, or a slice of it."""

    place: Place
    span: Span = None


class Read(NamedTuple):
    """An operand of an operation.

    Attributes:
      value: value that is read.
      mark: sign of the operand: the − of a difference, the ÷ of a quotient.
      differentiable: whether a gradient goes back to it.
      part: place of the slice of `value` that is read, where it is only a slice.
    """

    value: Value
    mark: str = ""
    differentiable: bool = True
    part: Place | None = None


@dataclass
class Operation:
    """An operation: its `sign` in mathematics, and its operands."""

    sign: str
    reads: list[Read] = field(default_factory=list)


class Operations:
    """The operations of `program` from its inputs to its outputs.

    Attributes:
      at: operations by value, in the order of the program; the operands of each are keys of it or
        variables.
    """

    def __init__(self, program: Program, variables: Collection[Place]):
        """Find the operations; variables and inputs are read as they are, never looked through."""
        # Backwards: an equation is reached after all that read it, and left out if none does. A
        # slice that is wanted of an elementwise result is wanted of its operands instead, so that
        # gates become operations of their own.
        self._program = program
        self._variables = set(variables) | set(program.inputs)
        self._constants = dict(self._constant_values())
        self._joined = self._places_with_concatenations()
        self._wanted: dict[Place, set[Span]] = defaultdict(set)
        self._same: dict[Value, Value] = {}
        self.at: dict[Value, Operation] = {}
        for place in {*self._variables, *program.outputs} - set(program.inputs):
            self._wanted[place].add(None)
        for equation in reversed(program.equations):
            for index, place in enumerate(equation.writes):
                if self._wanted[place] and place not in self._constants:
                    self._define(equation, index, self._wanted[place])
        self.at = dict(reversed(self.at.items()))
        for operation in self.at.values():
            operation.reads = [
                Read(value, read.mark, read.differentiable, self._slice(read.value))
                for read in operation.reads
                if (value := self.source(read.value))
            ]
        self._merge_sums()

    def source(self, value: Value) -> Value | None:
        """Return the variable or operation that `value` is read from; None for a constant."""
        while value.place not in self._variables and value not in self.at:
            if value.place in self._constants:
                return None
            value = self._same[value]
        return Value(value.place) if value.place in self._variables else value

    def names(self, of_places: Mapping[Place, str]) -> dict[Value, str]:
        """Return `{operation: name}`, where all that an operation computes has a name."""
        whole = {
            place: name for place, name in of_places.items() if self._slice(Value(place)) is None
        }
        found = {self._followed(Value(place)): name for place, name in whole.items()}
        return {value: name for value, name in found.items() if value in self.at}

    def _slice(self, value: Value) -> Place | None:
        """Return the place of `value`, if that is a slice of the operation that it is read from."""
        followed = self._followed(value)
        whole = self._same.get(followed)
        return value.place if whole is not None and whole.place == followed.place else None

    def _followed(self, value: Value) -> Value:
        """Return the value that `value` equals, up to where it would be a slice of an operation."""
        while value not in self.at and value in self._same:
            if self._same[value].place == value.place:
                break
            value = self._same[value]
        return value

    def definition(self, variable: Place) -> Value | None:
        """Return the operation or variable that an output comes from; None for a constant."""
        value = Value(variable)
        if variable in self._constants:
            return None
        return (
            value if value in self.at or value not in self._same else self.source(self._same[value])
        )

    def _define(self, equation: Equation, index: int, spans: set[Span]) -> None:
        """Define each wanted slice of a result: as another value, or by an operation."""
        place, name = equation.writes[index], equation.primitive.name
        waiting = list(spans)
        while waiting:
            span = waiting.pop()
            value = Value(place, span)
            parts = self._look_through(equation, index, span)
            if parts is not None and len(parts) == 1:
                self._alias(value, parts[0])
            elif parts is not None:
                self._operate(value, "[ ; ]", [Read(part) for part in parts])
            elif span is None or self._pushes(equation, spans):
                self._operate(value, *self._drawn(equation, place, name, span))
            else:
                self._same[value] = Value(place)
                waiting += [None] if Value(place) not in self.at else []

    def _drawn(self, equation: Equation, place: Place, name: str, span: Span):
        known = [self._constants.get(read) for read in equation.reads]
        differentiable = name not in NO_GRADIENT and self._inexact(place)
        marked = marks(name, len(known)) if not any(known) else [""] * len(known)
        reads = [
            Read(
                self._part(read, span) if self._elementwise(equation) else Value(read),
                mark,
                differentiable and self._inexact(read),
            )
            for read, mark, constant in zip(equation.reads, marked, known, strict=True)
            if constant is None
        ]
        if name == "mul" and len(reads) == 2 and reads[0] == reads[1]:
            return sign("square", {}, [None]), reads[:1]
        return sign(composite(equation) or name, equation.params, known), reads

    def _look_through(self, equation: Equation, index: int, span: Span) -> list[Value] | None:
        """Return the values that this one is made of, end to end; None where there is work."""
        name, place = equation.primitive.name, equation.writes[index]
        first = equation.reads[0] if equation.reads else None
        if first is None:
            return None
        vector = self._ndim(place) == self._ndim(first) == 1
        if name == "convert_element_type":
            return [self._part(first, span)] if self._same_kind(place, first) else None
        if name == "split":
            start = sum(equation.params["sizes"][:index])
            return [self._shifted(place, span, first, start)] if vector else [Value(first)]
        if name == "slice":
            strides = equation.params["strides"]
            if vector and strides in (None, (1,)):
                (start,) = equation.params["start_indices"]
                return [self._shifted(place, span, first, start)]
            return [Value(first)]
        if name == "concatenate" and vector:
            return self._pieces(equation, span)
        if name in TRANSPARENT:
            same = (
                self._program.shape_and_dtype(place)[0] == self._program.shape_and_dtype(first)[0]
            )
            return [self._part(first, span) if same else Value(first)]
        return None

    def _pieces(self, equation: Equation, span: Span) -> list[Value]:
        start, stop = span or (0, self._size(equation.writes[0]))
        pieces, offset = [], 0
        for read in equation.reads:
            low, high = max(start - offset, 0), min(stop - offset, self._size(read))
            if low < high:
                pieces.append(self._part(read, (low, high)))
            offset += self._size(read)
        # Constants, zeros mostly, are padding: a gate that the drive does not reach.
        kept = [piece for piece in pieces if piece.place not in self._constants]
        return kept or pieces[:1]

    def _pushes(self, equation: Equation, spans: set[Span]) -> bool:
        """Return whether slices of an elementwise result are drawn as results of slices."""
        if not self._elementwise(equation):
            return False
        # Of one vector, if all that is read of it is slices: σ(a) split into gates is a σ for each.
        # Of several, only if slices differ in what they depend on, as those of a concatenation do;
        # elsewhere it would multiply the operations without telling anything apart.
        vectors = [
            read for read in equation.reads if self._ndim(read) and read not in self._constants
        ]
        return (len(vectors) == 1 and None not in spans) or equation.writes[0] in self._joined

    def _elementwise(self, equation: Equation) -> bool:
        name = equation.primitive.name
        return (name in ELEMENTWISE or composite(equation) is not None) and all(
            self._ndim(place) == 0 or self._shape(place) == self._shape(equation.writes[0])
            for place in equation.reads
        )

    def _merge_sums(self) -> None:
        """Merge each sum that only another sum reads into that one."""
        uses = Counter(read.value for operation in self.at.values() for read in operation.reads)
        merged = set()
        for operation in self.at.values():
            if operation.sign != "+":
                continue
            reads = []
            for read in operation.reads:
                inner = self.at.get(read.value)
                if (
                    inner
                    and inner.sign == "+"
                    and uses[read.value] == 1
                    and (read.value.place not in self._variables)
                ):
                    merged.add(read.value)
                    reads += [_inside(term, read) for term in inner.reads]
                else:
                    reads.append(read)
            operation.reads = reads
        self.at = {value: op for value, op in self.at.items() if value not in merged}

    def _operate(self, value: Value, sign: str, reads: list[Read]) -> None:
        self.at[value] = Operation(sign, reads)
        for read in reads:
            self._want(read.value)

    def _alias(self, value: Value, same: Value) -> None:
        self._same[value] = same
        self._want(same)

    def _want(self, value: Value) -> None:
        if value.place not in self._variables:
            self._wanted[value.place].add(value.span)

    def _shifted(self, place: Place, span: Span, source: Place, start: int) -> Value:
        low, high = span or (0, self._size(place))
        return self._part(source, (start + low, start + high))

    def _part(self, place: Place, span: Span) -> Value:
        whole = self._ndim(place) != 1 or span == (0, self._size(place))
        return Value(place, None if whole else span)

    def _constant_values(self) -> Iterator[tuple[Place, Any]]:
        """Yield `(place, value)` of values that depend on no input; "const" for unknown ones."""
        known: dict[Place, Any] = {
            place: _number(value) for place, value in self._program.constants.items()
        }
        yield from known.items()
        for equation in self._program.equations:
            if all(read in known for read in equation.reads):
                carried = equation.primitive.name in (*TRANSPARENT, "convert_element_type")
                value = known[equation.reads[0]] if carried and equation.reads else "const"
                for place in equation.writes:
                    known[place] = value
                    yield place, value

    def _places_with_concatenations(self) -> set[Place]:
        """Find vectors that are, but for elementwise operations, concatenations."""
        joined: set[Place] = set()
        for equation in self._program.equations:
            name = equation.primitive.name
            passes = name in TRANSPARENT or name in ("split", "slice", "convert_element_type")
            if (name == "concatenate" and self._ndim(equation.writes[0]) == 1) or (
                (passes or self._elementwise(equation)) and joined & set(equation.reads)
            ):
                joined |= set(equation.writes) - self._variables
        return joined

    def _shape(self, place: Place) -> tuple[int, ...]:
        return self._program.shape_and_dtype(place)[0]

    def _ndim(self, place: Place) -> int:
        return len(self._shape(place))

    def _size(self, place: Place) -> int:
        return self._shape(place)[0]

    def _inexact(self, place: Place) -> bool:
        return bool(jnp.issubdtype(self._program.shape_and_dtype(place)[1], jnp.inexact))

    def _same_kind(self, a: Place, b: Place) -> bool:
        return self._inexact(a) == self._inexact(b)


def _inside(term: Read, outer: Read) -> Read:
    """Return a term of a sum that is itself read as a term of a sum."""
    mark = term.mark if not outer.mark else "" if term.mark else outer.mark
    return Read(term.value, mark, term.differentiable and outer.differentiable, term.part)


def _number(value: Any) -> str:
    """Return one number, written shortly; "const" for an array of several."""
    values = np.asarray(value)
    if values.size == 0 or values.dtype.kind not in "fiub" or (values != values.flat[0]).any():
        return "const"
    number = values.flat[0].item()
    if number in (float("inf"), float("-inf")):
        return "∞" if number > 0 else "−∞"
    return f"{number:.3g}".replace("-", "−")
