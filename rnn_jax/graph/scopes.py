"""Names of values, from the `jax.named_scope`s that a step computes them in."""

from __future__ import annotations

from collections import defaultdict

from rnn_jax.transforms.program import Place, Program


def scope_names(program: Program) -> dict[Place, str]:
    """Return `{place: name}` of the values that leave a scope, by the name of that scope.

    In `with jax.named_scope("c"): c = f * c + i * g` the sum is c: the products are read inside of
    the scope alone. A scope of two words names the two parts of a split: `"r z"`. Code without
    scopes has values without names, as JAX knows none.
    """
    read_in = defaultdict(list)
    for equation in program.equations:
        for place in equation.reads:
            read_in[place].append(_path(equation.scope))
    for place in program.outputs:
        read_in[place].append(())
    names: dict[Place, str] = {}
    for equation in program.equations:
        path = _path(equation.scope)
        if not path:
            continue
        words = [path[-1]] if len(equation.writes) == 1 else path[-1].split()
        if len(words) == len(equation.writes):
            for place, word in zip(equation.writes, words, strict=True):
                if any(scope[: len(path)] != path for scope in read_in[place]):
                    names[place] = word
    return names


def _path(scope: str) -> tuple[str, ...]:
    """Return the scopes of `layer/vmap(f)/vmap()` without the transformations: layer, f."""
    parts = (part.rpartition("(")[2].rstrip(")") for part in scope.split("/"))
    return tuple(part for part in parts if part)
