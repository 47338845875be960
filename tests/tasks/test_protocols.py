"""Protocols: what is drawn is what the papers describe, and the checks notice what is not."""

import numpy as np
import pytest

from tests.tasks.cases import EXACT, many, task_of
from tests.tasks.protocols import CHECKS


@pytest.mark.parametrize("case", EXACT)
def test_the_protocol(case):
    CHECKS[case](task_of(case), *many(case))


def swapped(xs, a, b):
    """Channels a and b in each other's place."""
    order = np.arange(xs.shape[-1])
    order[[a, b]] = b, a
    return xs[..., order]


def later(values):
    return np.roll(values, 1, 0)


def second_marker_anywhere(xs, targets, mask):
    """Both markers of every second example where the first half is."""
    xs = xs.copy()
    xs[:, ::2, 1] = np.roll(xs[:, ::2, 1], -3, 0)
    targets = targets.copy()
    targets[:] = (xs[..., 0] * xs[..., 1]).sum(0)[..., None]
    return xs, targets, mask


def running_products_of_the_other_side(xs, targets, mask):
    """x_t ··· x_0 for x_0 ··· x_t, which is the same where the group is abelian."""
    names = task_of("s3").inputs
    targets = targets.copy()
    for b in range(xs.shape[1]):
        product = names[0]
        for t, x in enumerate(xs[:, b].argmax(-1)):
            product = "".join(names[x][int(i) - 1] for i in product)
            targets[t, b] = names.index(product)
    return xs, targets, mask


def another_letter_at_the_end(xs, targets, mask):
    """T for P in the second to last place of each Reber string, and so in its target."""
    xs, targets, b = xs.copy(), targets.copy(), np.arange(xs.shape[1])
    last = mask.sum(0) - 1
    xs[last, b] = swapped(xs[last, b], 1, 2)
    targets[last - 1, b] = swapped(targets[last - 1, b], 1, 2)
    return xs, targets, mask


MUTANTS = {
    "a sum of three": ("adding", lambda xs, ts, m: (xs, ts + 0.1, m)),
    "markers in one half": ("adding", second_marker_anywhere),
    "values from -1 to 1": ("adding", lambda xs, ts, m: (2 * xs - [1, 0], 2 * ts - 2, m)),
    "a sum": ("multiplication", lambda xs, ts, m: (xs, 2 * ts**0.5, m)),
    "a step too late": ("copying", lambda xs, ts, m: (xs, later(ts), m)),
    "the cue a step early": ("copying", lambda xs, ts, m: (np.roll(xs, -1, 0), ts, m)),
    "only the end counts": ("copying", lambda xs, ts, m: (xs, ts, m & (ts < 4))),
    "Y, X for X, Y": ("temporal order of 2", lambda xs, ts, m: (swapped(xs, 4, 5), ts, m)),
    "the next symbols": ("random_permutation", lambda xs, ts, m: (xs, later(ts), m)),
    "a delay of one more": ("delay", lambda xs, ts, m: (xs, later(ts), m)),
    "or for exclusive or": (
        "delayed_xor",
        lambda xs, ts, m: (xs, np.maximum(np.roll(xs, 2, 0), np.roll(xs, 5, 0)), m),
    ),
    "pulses that are answered late": ("flip_flop", lambda xs, ts, m: (xs, later(ts), m)),
    "another value": ("associative_recall", lambda xs, ts, m: (xs, (ts + 1) % 10, m)),
    "even for odd": ("parity", lambda xs, ts, m: (xs, 1 - ts, m)),
    "plus for minus": ("modular_arithmetic", lambda xs, ts, m: (swapped(xs, 5, 6), ts, m)),
    "products from the left": ("s3", running_products_of_the_other_side),
    "one b too few": ("a_n_b_n", lambda xs, ts, m: (later(xs), ts, m)),
    "brackets that do not match": ("dyck", lambda xs, ts, m: (swapped(xs, 2, 3), ts, m)),
    "closed before opened": ("dyck", lambda xs, ts, m: (xs[::-1], ts[::-1], m)),
    "T in front, P behind": ("embedded_reber", another_letter_at_the_end),
    "S for X": ("embedded_reber", lambda xs, ts, m: (swapped(xs, 3, 4), ts, m)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_another_protocol_is_noticed(mutant):
    case, mutate = MUTANTS[mutant]
    xs, targets, mask = mutate(*many(case))
    with pytest.raises(AssertionError):
        CHECKS[case](task_of(case), xs, targets, mask)
