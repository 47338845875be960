"""What each task asks, checked by other means than those that draw it.

A check takes `xs [T, B, I]`, `targets` and `mask` of many examples, as NumPy's, and the task.
"""

import re

import numpy as np

CHECKED = 1000
"""Examples that a loop of Python looks at."""


def read(task, xs):
    """Strings of one-hot inputs, zeros left out, one for each of the first examples."""
    for b in range(min(xs.shape[1], CHECKED)):
        assert set(np.unique(xs[:, b])) <= {0, 1}
        assert (xs[:, b].sum(-1) <= 1).all()
        yield b, [task.inputs[x.argmax()] for x in xs[:, b] if x.any()]


def said(task, targets, mask, b):
    """Names of the targets of the steps that count."""
    return [task.outputs[c] for c in targets[mask[:, b], b]]


def check_uniform(values, among):
    """Raise AssertionError unless integers are uniform over `among`, to 5 standard errors."""
    found, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(found, np.arange(len(among)) + among[0])
    expected = np.size(values) / len(among)
    assert (np.abs(counts - expected) < 5 * expected**0.5).all()


def only_last(mask):
    assert mask[-1].all()
    assert not mask[:-1].any()


def adding(task, xs, targets, mask):
    only_last(mask)
    T = len(xs)
    values, markers = xs[..., 0], xs[..., 1]
    check_uniform(np.floor(10 * values), range(10))
    np.testing.assert_array_equal(markers.sum(0), 2)
    check_uniform(markers.argmax(0), range(T // 2))
    check_uniform(T - 1 - markers[::-1].argmax(0), range(T // 2, T - 1))
    np.testing.assert_allclose(targets[-1, :, 0], (values * markers).sum(0), rtol=1e-6)


def multiplication(task, xs, targets, mask):
    longest, T = len(xs), len(xs) * 10 // 11 + (len(xs) * 10 % 11 > 0)
    last = mask.argmax(0)
    np.testing.assert_array_equal(mask.sum(0), 1)
    check_uniform(last + 1, range(T, longest + 1))
    behind = np.arange(longest)[:, None] > last
    assert not xs[behind].any()
    values, markers = xs[..., 0], xs[..., 1]
    assert (markers[0] == -1).all()
    assert (markers[last, np.arange(len(last))] == -1).all()
    check_uniform(np.floor(10 * values[1:][~behind[1:]]), range(10))
    marked = markers == 1
    whole = marked.sum(0) == 2  # else the first step was chosen, whose marker stays -1
    assert np.isin(marked.sum(0), (1, 2)).all()
    expected = 0.1 + 0.9 / (T // 2 - 1)
    assert abs((~whole).mean() - expected) < 5 * (expected / len(last)) ** 0.5
    assert (values[0, ~whole] == 1).all()
    first, second = marked.argmax(0), longest - 1 - marked[::-1].argmax(0)
    assert first[whole].max() <= 9
    assert second.max() == T // 2 - 1
    product = np.where(marked, values, 1).prod(0)
    np.testing.assert_allclose(targets[last, np.arange(len(last)), 0], product, rtol=1e-6)


def copying(task, xs, targets, mask, length=3, delay=5):
    assert mask.all()
    for b, shown in read(task, xs):
        symbols, answer = shown[:length], said(task, targets, mask, b)
        cue = shown.index("cue")
        assert shown.count("blank") == len(shown) - length - 1
        assert cue == len(shown) - length - 1 == length + delay - 1
        assert answer == ["blank"] * (len(shown) - length) + symbols
    check_uniform(xs[:length].argmax(-1), range(task.input_size - 2))


def memorization_5(task, xs, targets, mask):
    copying(task, xs, targets, mask, length=5, delay=len(xs) - 10)


def memorization_20(task, xs, targets, mask):
    copying(task, xs, targets, mask, length=10, delay=len(xs) - 20)


def temporal_order(task, xs, targets, mask):
    only_last(mask)
    T, wide = len(xs), len(task.outputs) == 8
    ranges = ((0.1, 0.2), (0.33, 0.43), (0.66, 0.76)) if wide else ((0.1, 0.2), (0.5, 0.6))
    for b, shown in read(task, xs):
        assert shown[0] == "E"
        assert shown[-1] == "B"
        relevant = [s for s in shown if s in "XY"]
        assert said(task, targets, mask, b) == ["".join(relevant)]
        assert set(shown[1:-1]) <= set("abcdXY")
    check_uniform(targets[-1], range(len(task.outputs)))
    found = np.nonzero(xs[..., 4:6].any(-1).T)[1].reshape(-1, len(ranges))
    for positions, (low, high) in zip(found.T, ranges, strict=True):
        check_uniform(positions, range(int(low * T + 1e-9), int(high * T + 1e-9)))


def random_permutation(task, xs, targets, mask):
    only_last(mask)
    symbols = xs.argmax(-1)
    check_uniform(symbols[0], range(2))
    check_uniform(symbols[1:], range(2, task.input_size))
    np.testing.assert_array_equal(targets, np.roll(symbols, -1, 0))


def delay(task, xs, targets, mask, T=3):
    check_uniform(xs, range(2))
    np.testing.assert_array_equal(mask, np.arange(len(xs))[:, None] >= np.full(xs.shape[1], T))
    np.testing.assert_array_equal(targets[T:], xs[:-T])


def delayed_xor(task, xs, targets, mask, T=5):
    np.testing.assert_array_equal(mask, np.arange(len(xs))[:, None] >= np.full(xs.shape[1], T))
    for t in range(T, len(xs)):
        np.testing.assert_array_equal(targets[t] == 1, (xs[t - T // 2] + xs[t - T]) == 1)


def flip_flop(task, xs, targets, mask, p=0.3):
    assert mask.all()
    assert np.isin(xs, (-1, 0, 1)).all()
    assert (xs[0] != 0).all()
    later = xs[1:] != 0
    assert abs(later.mean() - p) < 5 * (p / later.size) ** 0.5
    last = np.zeros_like(xs[0])
    for x, target in zip(xs, targets, strict=True):
        last = np.where(x != 0, x, last)
        np.testing.assert_array_equal(target, last)


def associative_recall(task, xs, targets, mask):
    only_last(mask)
    for b, shown in read(task, xs):
        text = "".join(shown)
        assert re.fullmatch(r"([a-z][0-9])+\?\?[a-z]", text)
        keys, values = shown[:-3:2], shown[1:-3:2]
        assert len(set(keys)) == len(keys) == (len(xs) - 3) // 2
        assert said(task, targets, mask, b) == [dict(zip(keys, values, strict=True))[text[-1]]]


def parity(task, xs, targets, mask):
    if mask.all():
        odd = xs[..., 1].cumsum(0) % 2
    else:
        only_last(mask)
        odd = np.broadcast_to(xs[..., 1].sum(0) % 2, targets.shape)
    check_uniform(xs.argmax(-1), range(2))
    np.testing.assert_array_equal(targets[mask], odd[mask])


def modular_arithmetic(task, xs, targets, mask):
    only_last(mask)
    for b, shown in read(task, xs):
        formula = "".join(shown).replace("−", "-").replace("·", "*")
        assert re.fullmatch(r"[0-4]([-+*][0-4])+", formula)
        assert said(task, targets, mask, b) == [str(eval(formula) % 5)]


def word_problem(task, xs, targets, mask):
    assert mask.all()
    for b, shown in read(task, xs):
        product = range(len(shown[0]))
        for name, answer in zip(shown, said(task, targets, mask, b), strict=True):
            product = [product[int(i) - 1] for i in name]  # (p q)(i) = p(q(i))
            assert answer == "".join(str(i + 1) for i in product)
    check_uniform(xs.argmax(-1), range(task.input_size))


def counting(task, xs, targets, mask):
    letters = task.inputs[1:]
    for b, shown in read(task, xs):
        n = (len(shown) - 1) // len(letters)
        string = "S" + "".join(letter * n for letter in letters) + "E"
        assert "".join(shown) == string[:-1]
        assert "".join(said(task, targets, mask, b)) == string[n + 2 :]
        np.testing.assert_array_equal(np.flatnonzero(mask[:, b]), range(n + 1, len(shown)))
    n = (xs.any(-1).sum(0) - 1) // len(letters)
    check_uniform(n, range(1, (len(xs) - 1) // len(letters) + 1))


def dyck(task, xs, targets, mask, most=3):
    assert mask.all()
    partner = {"(": ")", "[": "]"}
    for b, shown in read(task, xs):
        stack = []
        for bracket, target in zip(shown, targets[:, b], strict=True):
            if bracket in partner:
                stack.append(partner[bracket])
            else:
                assert stack[-1:] == [bracket]
                stack.pop()
            assert len(stack) <= most
            possible = set(partner) if len(stack) < most else set()
            possible |= set(stack[-1:])
            assert {task.outputs[o] for o in np.flatnonzero(target)} == possible
        assert not stack
    # Uniform: all ways up and down, and the types of what is opened.
    opens = xs[..., :2].any(-1)
    _, ways = np.unique(opens, axis=1, return_inverse=True)
    check_uniform(ways.ravel(), range(count_paths(len(xs), most)))
    check_uniform(xs[opens].argmax(-1), range(2))


def count_paths(steps, most, depth=0):
    if depth < 0 or depth > most or depth > steps:
        return 0
    if steps == 0:
        return 1
    return count_paths(steps - 1, most, depth + 1) + count_paths(steps - 1, most, depth - 1)


def inner_reber_continuations(string):
    """What may follow a prefix of a Reber string, by patterns of whole prefixes; "" for none."""
    loop = r"(T*VPX)*T*V"  # from the node of T and V, to that of P and V
    to_tv, to_xs = r"B(P|TS*XX)", r"BTS*X"
    back = rf"({to_tv}{loop}P(XT*VP)*)"  # the node of X and S, by way of P
    patterns = {
        r"": "B",
        r"B": "TP",
        r"BTS*": "SX",
        rf"{to_xs}|{back}": "XS",
        rf"{to_tv}T*|{back}XT*": "TV",
        rf"{to_tv}{loop}": "PV",
        rf"({to_xs}|{back})S|{to_tv}{loop}V": "E",
    }
    found = {follow for pattern, follow in patterns.items() if re.fullmatch(pattern, string)}
    assert len(found) <= 1, (string, found)
    return found.pop() if found else ""


def embedded_reber(task, xs, targets, mask):
    lengths = xs.any(-1).sum(0)
    np.testing.assert_array_equal(mask, np.arange(len(xs))[:, None] < lengths)
    for b, shown in read(task, xs):
        string = "".join(shown)
        assert len(string) >= 8
        for t in range(len(string)):
            possible = {task.outputs[o] for o in np.flatnonzero(targets[t, b])}
            inner = string[2 : t + 1]
            ended = inner.endswith("E")
            if t == len(string) - 1:
                expected = "E"
                assert inner[-2] == "E"
            elif t == 0 or ended:
                expected = "TP" if t == 0 else string[1]
            else:
                expected = inner_reber_continuations(inner)
            assert expected
            assert possible == set(expected)
            if t + 1 < len(string):
                assert string[t + 1] in expected
        assert string[0] == "B"
        assert string[1] == string[-1]
    # Walks with probability one half: BTXSE and BPVVE, inside, have probability 1/8 each.
    assert abs((lengths == 8).mean() - 0.25) < 0.02


CHECKS = {
    "adding": adding,
    "multiplication": multiplication,
    "copying": copying,
    "5 bits": memorization_5,
    "20 bits": memorization_20,
    "temporal order of 2": temporal_order,
    "temporal order of 3": temporal_order,
    "random_permutation": random_permutation,
    "delay": delay,
    "delayed_xor": delayed_xor,
    "flip_flop": flip_flop,
    "associative_recall": associative_recall,
    "parity": parity,
    "running parity": parity,
    "modular_arithmetic": modular_arithmetic,
    "s3": word_problem,
    "s5": word_problem,
    "a_n_b_n": counting,
    "a_n_b_n_c_n": counting,
    "dyck": dyck,
    "embedded_reber": embedded_reber,
}
