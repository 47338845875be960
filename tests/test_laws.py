"""What holds for every cell: ours, wrapped, and a user's plain function. In float64."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import rnn_jax
from rnn_jax import cells, gradients, losses
from tests.conftest import INPUT_SIZE, normal, random_state

T = 7


# Of Jacobians alone, so that cells whose states are of one size share a program.
product_log_norms = jax.jit(gradients.product_log_norms)
product_bound = jax.jit(gradients.product_bound)


def sequence_loss(cell, params, xs, targets, initial_state=None):
    ys = rnn_jax.unroll(cell, params, xs, initial_state)[1]
    return losses.per_step(losses.squared_error, ys, targets).sum()


def data(cell, params, batch, steps=T):
    xs = normal(1, steps, *batch, INPUT_SIZE)
    state = random_state(cell, params, batch)
    y = jax.eval_shape(cell.step, params, state, xs[0])[1]
    return xs, normal(2, steps, *y.shape), state


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_dtype_in_is_dtype_out(lawful, dtype):
    cell = lawful(dtype)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    state, ys = rnn_jax.unroll(cell, params, jnp.ones((4, 2, INPUT_SIZE), dtype))
    chex.assert_type([*jax.tree.leaves((params, state)), ys], dtype)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_batch_axes_are_vmap(cell, params, batch):
    xs, _, start = data(cell, params, batch)
    final, ys = jax.jit(lambda p, x, s: rnn_jax.unroll(cell, p, x, s))(params, xs, start)
    one = lambda x, s: rnn_jax.unroll(cell, params, x, s)
    for _ in batch:
        one = jax.vmap(one, in_axes=(1, 0), out_axes=(0, 1))
    expected_final, expected_ys = jax.jit(one)(xs, start)
    chex.assert_trees_all_close((final, ys), (expected_final, expected_ys), rtol=1e-12, atol=1e-14)


def test_unroll_is_a_loop_of_steps(cell, params):
    xs, _, state = data(cell, params, (3,))
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-12, atol=1e-14)
    final, ys = rnn_jax.unroll(cell, params, xs, state)
    states = rnn_jax.trajectory(cell, params, xs, state)
    for t in range(T):
        close(jax.tree.map(lambda s: s[t], states), state)
        state, y = cell.step(params, state, xs[t])
        close(ys[t], y)
    close(final, state)
    close(jax.tree.map(lambda s: s[-1], states), final)


def test_reverse_is_the_reversed_sequence(cell, params):
    xs, _, start = data(cell, params, (3,))
    final, ys = rnn_jax.unroll(cell, params, xs, start, reverse=True)
    expected_final, expected_ys = rnn_jax.unroll(cell, params, xs[::-1], start)
    chex.assert_trees_all_equal((final, ys[::-1]), (expected_final, expected_ys))
    states = rnn_jax.trajectory(cell, params, xs, start, reverse=True)
    expected = rnn_jax.trajectory(cell, params, xs[::-1], start)
    chex.assert_trees_all_equal(states, expected)


def test_gradient_agrees_with_finite_differences(cell, params):
    xs, targets, start = data(cell, params, (2,), steps=4)
    loss = jax.jit(lambda p, s, x: sequence_loss(cell, p, x, targets, s))
    # A step of 1e-6: few kinks of a relu lie within it.
    check_grads(loss, (params, start, xs), order=1, modes=["fwd", "rev"], rtol=1e-6, eps=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_padded_tail_is_the_shorter_sequence(cell, params, reverse):
    """Outputs, states and gradients, exactly, with NaN in the padding of inputs and targets."""
    lengths = np.array([T, 4, 1, 0])
    xs, targets, start = data(cell, params, (len(lengths),))
    past = ~rnn_jax.length_mask(lengths, T)
    assert past.sum() == 3 * T - 5
    xs, targets = (jnp.where(past[..., None], jnp.nan, a) for a in (xs, targets))

    def padded(params, start):
        unrolled = {"lengths": jnp.asarray(lengths), "reverse": reverse}
        final, ys = rnn_jax.unroll(cell, params, xs, start, **unrolled)
        states = rnn_jax.trajectory(cell, params, xs, start, **unrolled)
        E = losses.per_step(losses.squared_error, ys, targets, ~past).sum(0)
        return E.sum(), (E, final, ys, states)

    grads, (E, final, ys, states) = jax.jit(jax.grad(padded, (0, 1), has_aux=True))(params, start)
    chex.assert_tree_all_finite((grads, E, final, ys, states))
    assert (ys[past] == 0).all()

    @functools.partial(jax.jit, static_argnums=(2, 3))
    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def shorter(params, start, n, i):
        final, ys = rnn_jax.unroll(cell, params, xs[:n, i], start, reverse=reverse)
        E = losses.per_step(losses.squared_error, ys, targets[:n, i]).sum()
        return E, (E, final, ys)

    total = jax.tree.map(jnp.zeros_like, params)
    for i, n in enumerate(lengths):
        at_i = lambda leaf: leaf[i]
        if n == 0:
            chex.assert_trees_all_equal(jax.tree.map(at_i, final), jax.tree.map(at_i, start))
            chex.assert_trees_all_equal(
                jax.tree.map(at_i, grads[1]), jax.tree.map(lambda s: jnp.zeros_like(s[0]), start)
            )
            continue
        (d_params, d_start), expected = shorter(params, jax.tree.map(at_i, start), int(n), i)
        close = lambda a, b: chex.assert_trees_all_close(a, b, rtol=1e-13, atol=1e-13)
        close((E[i], jax.tree.map(at_i, final), ys[:n, i]), expected)
        close(jax.tree.map(at_i, grads[1]), d_start)
        total = jax.tree.map(jnp.add, total, d_params)
    chex.assert_trees_all_close(grads[0], total, rtol=1e-12, atol=1e-13)


def test_padding_adds_exactly_nothing(cell, params):
    """More padding, bit for bit the same; by scan, for chunks sum in another order."""
    xs, targets, start = data(cell, params, (3,))
    lengths = jnp.array([T, 4, 2])

    @jax.jit
    def value_and_grads(xs, targets):
        def loss(params, start):
            ys = rnn_jax.unroll(cell, params, xs, start, lengths=lengths, strategy="scan")[1]
            mask = rnn_jax.length_mask(lengths, len(xs))
            return losses.per_step(losses.squared_error, ys, targets, mask).sum((0, 1))

        return jax.value_and_grad(loss, (0, 1))(params, start)

    more = lambda a: jnp.concatenate([a, jnp.full((5, *a.shape[1:]), jnp.nan)])
    chex.assert_trees_all_equal(
        value_and_grads(xs, targets), value_and_grads(more(xs), more(targets))
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_resets_are_separate_sequences(cell, params, reverse):
    """Three sequences end to end: outputs, final state and gradients; padding after the last."""
    ends = (2, 5, 6)
    xs, targets, start = data(cell, params, ())
    resets = jnp.zeros(T, bool).at[jnp.array(ends[:2])].set(True)

    def packed(params, start, strategy):
        where = {"lengths": jnp.asarray(ends[-1]), "resets": resets, "reverse": reverse}
        final, ys = rnn_jax.unroll(cell, params, xs, start, strategy=strategy, **where)
        states = rnn_jax.trajectory(cell, params, xs, start, **where)
        return jnp.sum(ys * targets), (final, ys[: ends[-1]], states)

    def apart(params, start):
        runs = []
        for first, end in zip((0, *ends[:2]), ends, strict=True):
            given = end == ends[-1] if reverse else first == 0
            run = functools.partial(rnn_jax.unroll, cell, params, xs[first:end], reverse=reverse)
            runs.append(run(start if given else None))
        ys = jnp.concatenate([ys for _, ys in runs])
        final = runs[0 if reverse else -1][0]
        return jnp.sum(ys * targets[: ends[-1]]), (final, ys)

    gradient = lambda f, **fixed: jax.jit(
        jax.grad(functools.partial(f, **fixed), (0, 1), has_aux=True)
    )(params, start)
    expected_grads, expected = gradient(apart)
    for strategy in ("auto", "scan"):
        grads, (*got, states) = gradient(packed, strategy=strategy)
        chex.assert_trees_all_close(
            (grads, tuple(got)), (expected_grads, expected), rtol=1e-12, atol=1e-13
        )
        chex.assert_trees_all_close(
            jax.tree.map(lambda s: s[-1], states), expected[0], rtol=1e-12, atol=1e-13
        )


@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_the_terms_sum_to_the_gradient(cell, params, batch):
    xs, targets, start = data(cell, params, batch)
    E = lambda p: sequence_loss(cell, p, xs, targets, start)
    gradient = jax.jit(jax.grad(E))(params)
    terms = jax.jit(
        lambda p: gradients.decompose_terms(cell, p, xs, targets, losses.squared_error, start)
    )(params)
    for term, expected in zip(*map(jax.tree.leaves, (terms, gradient)), strict=True):
        assert term.shape == (T, T, *expected.shape)
        scale = jnp.abs(expected).max()
        np.testing.assert_allclose(term.sum((0, 1)), expected, atol=1e-12 * scale, rtol=0)
        assert (term[np.triu_indices(T, 1)] == 0).all()

    E_t = lambda p: losses.per_step(
        losses.squared_error, rnn_jax.unroll(cell, p, xs, start)[1], targets
    ).sum(range(1, 1 + len(batch)))
    by_loss = jax.jit(jax.jacrev(E_t))(params)
    for term, expected in zip(*map(jax.tree.leaves, (terms, by_loss)), strict=True):
        np.testing.assert_allclose(term.sum(1), expected, rtol=1e-10, atol=1e-12)


def test_norms_of_the_terms(cell, params):
    """decompose's norms, which form no matrix, against the terms themselves."""
    xs, targets, start = data(cell, params, (3,))
    table, terms_of = (
        jax.jit(lambda *at, f=f: f(cell, params, *at[:2], losses.squared_error, at[2]))
        for f in (gradients.decompose, gradients.decompose_terms)
    )
    table = table(xs, targets, start)
    for i in range(3):
        terms = terms_of(xs[:, i], targets[:, i], jax.tree.map(lambda leaf: leaf[i], start))
        for logs, term in zip(*map(jax.tree.leaves, (table.param_log_norms, terms)), strict=True):
            norms = jnp.sqrt(jnp.square(term).sum(range(2, term.ndim)))
            np.testing.assert_allclose(jnp.exp(logs[..., i]), norms, rtol=1e-12)
            assert jnp.isneginf(logs[np.triu_indices(T, 1)]).all()


def test_state_norms_of_the_decomposition(cell, params):
    """∂E_t/∂h_k against the Jacobian of all E_t with respect to a nudge of every state."""
    xs, targets, start = data(cell, params, ())
    table = jax.jit(
        lambda p: gradients.decompose(cell, p, xs, targets, losses.squared_error, start)
    )(params).state_log_norms

    def losses_of(nudges):
        """E_t for all t, with nudge k added to the state that step k starts from."""

        def step(state, at_t):
            x, target, nudge = at_t
            state, y = cell.step(params, jax.tree.map(jnp.add, state, nudge), x)
            return state, losses.squared_error(y, target)

        return jax.lax.scan(step, start, (xs, targets, nudges))[1]

    none = jax.tree.map(lambda leaf: jnp.zeros((T, *leaf.shape)), start)
    jacobians = jax.tree.leaves(jax.jit(jax.jacrev(losses_of))(none))
    norms = jnp.sqrt(sum(jnp.square(leaf).sum(range(2, leaf.ndim)) for leaf in jacobians))
    below = np.tril_indices(T)
    np.testing.assert_allclose(jnp.exp(table[below]), norms[below], rtol=1e-10, atol=1e-13)
    assert jnp.isneginf(table[np.triu_indices(T, 2, T + 1)]).all()
    assert jnp.isfinite(table[np.arange(T), np.arange(T) + 1]).all()


@pytest.mark.parametrize("form", ["elman", "elman_preactivation", "lstm"])
def test_the_state_that_a_loss_reads(form):
    """∂E_t/∂h_t, counted as the lecture does: what y_t has of the state its own step hands on."""
    H, O = 6, 5
    cell = cells.readout(cells.CELLS[form](H, dtype=jnp.float64), O)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs, targets, _ = data(cell, params, ())
    table = gradients.decompose(cell, params, xs, targets, losses.squared_error).state_log_norms
    states = rnn_jax.trajectory(cell, params, xs)
    ys = rnn_jax.unroll(cell, params, xs)[1]
    for t in range(T):
        at_y = params.V.T @ (ys[t] - targets[t])
        if form == "elman_preactivation":
            at_y = (1 - jnp.tanh(states[t + 1]) ** 2) * at_y
        np.testing.assert_allclose(jnp.exp(table[t, t + 1]), jnp.linalg.norm(at_y), rtol=1e-12)


def test_step_jacobians_and_their_products(cell, params):
    xs, _, start = data(cell, params, (2,))

    def end_to_end(start, xs):
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        final = lambda h: rnn_jax.unroll(cell, params, xs, unravel(h))[0]
        return jax.jacrev(lambda h: jax.flatten_util.ravel_pytree(final(h))[0])(flat)

    @jax.jit
    def all_of_them(params, xs, start):
        at = (cell, params, xs, start)
        frobenius = gradients.jacobian_log_norms(*at, norm="frobenius")
        return gradients.step_jacobians(*at), jax.vmap(end_to_end, (0, 1))(start, xs), frobenius

    jacobians, from_end_to_end, frobenius = all_of_them(params, xs, start)
    tables = {"frobenius": frobenius, "spectral": product_log_norms(jacobians)}
    for i in range(2):
        J = np.asarray(jacobians[:, i])
        product = np.linalg.multi_dot(list(J[::-1]))
        np.testing.assert_allclose(from_end_to_end[i], product, rtol=1e-9, atol=1e-12)
        for norm, order in (("spectral", 2), ("frobenius", "fro")):
            for k in range(T + 1):
                product = np.eye(J.shape[-1])
                for t in range(k, T + 1):
                    if t > k:
                        product = J[t - 1] @ product
                    with np.errstate(divide="ignore"):  # dead units: ln 0 = -inf
                        expected = np.log(np.linalg.norm(product, order))
                    np.testing.assert_allclose(tables[norm][t, k, i], expected, atol=1e-12)
    for table in tables.values():
        assert jnp.isneginf(table[np.triu_indices(T + 1, 1)]).all()


def test_measured_norms_keep_their_bounds(cell, params):
    xs, _, start = data(cell, params, (4,), steps=30)
    jacobians = jax.jit(lambda p: gradients.step_jacobians(cell, p, xs, start))(params)
    log_norms, bounds = product_log_norms(jacobians), [product_bound(jacobians)]
    # Outside the jit above: see `linalg.spectral_norm` on two batches in one jit.
    if cell.norm_bound_terms is not None:
        table = gradients.power_bound(*gradients.norm_bound(cell, params), T=30)
        bounds.append(table[..., None])
        assert (bounds[0] <= bounds[1] + 1e-12).all()  # Π‖J_i‖ is the tighter
    for bound in bounds:
        check = gradients.check_bound(log_norms, bound, state_size=jacobians.shape[-1])
        np.testing.assert_array_equal(check.violations, 0)
        assert jnp.nanmin(check.slack) > -1e-12


def test_compiles_for_every_platform(cell, params):
    xs, targets, start = data(cell, params, (2,))

    def gradient(p, xs, targets, start):
        return jax.grad(lambda p: sequence_loss(cell, p, xs, targets, start))(p)

    def table(p, xs, targets, start):
        return gradients.decompose(cell, p, xs, targets, losses.squared_error, start)

    platforms = ["cpu", "cuda", "tpu"]
    for function in (gradient, table):
        exported = jax.export.export(jax.jit(function), platforms=platforms)(
            params, xs, targets, start
        )
        assert exported.platforms == tuple(platforms)
