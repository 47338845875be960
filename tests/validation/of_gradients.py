"""Gradients and Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from rnn_jax import cells, gradients, losses
from tests.validation.oracle import oracle

T, I, H, O = 12, 3, 6, 2
KEYS = [jax.random.key(n) for n in range(5)]
FLOAT = jnp.float64


def drawn(cell, T=T):
    """Return params, one sequence of inputs and its targets, in float64."""
    return (
        cell.init(KEYS[0], I),
        jax.random.normal(KEYS[1], (T, I), FLOAT),
        jax.random.normal(KEYS[2], (T, O), FLOAT),
    )


def relative(found, wanted):
    """Return the largest relative difference of two pytrees, leaf by leaf, by norm."""
    off = lambda a, b: float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
    return max(jax.tree.leaves(jax.tree.map(off, found, wanted)))


def network(cell):
    return cells.readout(cell, O)


def total_loss(cell, xs, targets, strategy="scan"):
    def loss(params):
        ys = rnn_jax.unroll(cell, params, xs, strategy=strategy)[1]
        return losses.per_step(losses.squared_error, ys, targets).sum()

    return loss


@oracle(
    "sum of all (t, k) terms of every parameter's gradient, LSTM",
    "`jax.grad` of the sum of losses",
    "relative",
    1e-12,
)
def terms():
    cell = network(cells.lstm(H, dtype=FLOAT))
    params, xs, targets = drawn(cell)
    each = gradients.decompose_terms(cell, params, xs, targets, losses.squared_error)
    summed = jax.tree.map(lambda leaf: leaf.sum((0, 1)), each)
    return relative(summed, jax.grad(total_loss(cell, xs, targets))(params))


@oracle("terms with k > t, LSTM, largest", "0: the future has no part in a loss", "absolute", 0.0)
def future():
    cell = network(cells.lstm(H, dtype=FLOAT))
    params, xs, targets = drawn(cell)
    each = gradients.decompose_terms(cell, params, xs, targets, losses.squared_error)
    late = np.triu_indices(T, 1)
    return max(float(jnp.abs(leaf[late]).max()) for leaf in jax.tree.leaves(each))


@oracle(
    "one term, (t, k) = (9, 4), of W, from its four factors",
    "(∂E_t/∂y_t)(∂y_t/∂h_t)(∂h_t/∂h_k)(∂h_k/∂W), each by `jax.jacobian`",
    "relative",
    1e-12,
)
def four_factors():
    cell = network(cells.elman(H, dtype=FLOAT))
    params, xs, targets = drawn(cell)
    t, k = 9, 4
    states = rnn_jax.trajectory(cell, params, xs)
    step = lambda W, h, x: cell.step(params.replace(cell=params.cell.replace(W=W)), h, x)[0]
    W = params.cell.W
    of_loss = jax.grad(lambda y: losses.squared_error(y, targets[t - 1]))
    factor = of_loss(params.V @ states[t] + params.c) @ params.V
    for i in range(t, k, -1):
        factor = factor @ jax.jacobian(step, 1)(W, states[i - 1], xs[i - 1])
    by_hand = jnp.tensordot(factor, jax.jacobian(step)(W, states[k - 1], xs[k - 1]), 1)
    each = gradients.decompose_terms(cell, params, xs, targets, losses.squared_error)
    return relative(each.cell.W[t - 1, k - 1], by_hand)


@oracle(
    "∂s_t/∂s_k, GRU, t = 2, 5, 8, 11 and all k: ln of their norms",
    "the largest singular value of `jax.jacrev` through the run",
    "nats",
    1e-10,
)
def jacobian_norms():
    cell = cells.gru(H, dtype=FLOAT)
    params, xs, _ = drawn(cell)
    states = rnn_jax.trajectory(cell, params, xs)
    found = gradients.jacobian_log_norms(cell, params, xs)

    def wanted(t, k):
        run = lambda s: rnn_jax.unroll(cell, params, xs[k:t], s)[0]
        return jnp.log(jnp.linalg.norm(jax.jacrev(run)(states[k]), 2))

    return max(abs(float(found[t, k] - wanted(t, k))) for t in range(2, T + 1, 3) for k in range(t))


@oracle(
    "∂s_t/∂x_k, LSTM, t = 1, 5, 12 and all k: ln of their norms",
    "the largest singular value of `jax.jacrev` through the run",
    "nats",
    1e-10,
)
def input_norms():
    cell = cells.lstm(H, dtype=FLOAT)
    params, xs, _ = drawn(cell)
    found = gradients.input_log_norms(cell, params, xs)

    def wanted(t):
        flat = lambda state: jnp.concatenate([state.c, state.h])
        run = lambda xs: flat(rnn_jax.unroll(cell, params, xs)[0])
        blocks = jax.jacrev(run)(xs[:t])  # [S, t, I]
        return jnp.log(jnp.linalg.norm(blocks, 2, axis=(0, 2)))

    apart = [jnp.abs(found[t - 1, :t] - wanted(t)).max() for t in (1, 5, T)]
    return float(max(apart))


def of_strategy(cell, strategy):
    params, xs, targets = drawn(cell, 40)
    gradient = lambda way: jax.grad(total_loss(cell, xs, targets, way))(params)
    return relative(gradient(strategy), gradient("scan"))


@oracle("gradient by `fused`, LSTM, T = 40", "that of one `lax.scan`", "relative", 1e-12)
def fused():
    return of_strategy(network(cells.lstm(H, dtype=FLOAT)), "fused")


@oracle("gradient by `parallel`, LRU, T = 40", "that of one `lax.scan`", "relative", 1e-11)
def parallel():
    return of_strategy(cells.readout(cells.lru(H, dtype=FLOAT), O), "parallel")


@oracle("gradient by `checkpointed`, GRU, T = 40", "that of one `lax.scan`", "relative", 1e-12)
def checkpointed():
    return of_strategy(network(cells.gru(H, dtype=FLOAT)), "checkpointed")


@oracle(
    "gradient of truncated BPTT whose window is the whole sequence",
    "that of full BPTT",
    "relative",
    1e-12,
)
def whole_window():
    cell = network(cells.gru(H, dtype=FLOAT))
    params, xs, targets = drawn(cell)
    _, found, _ = gradients.truncated_gradient(
        cell, params, xs[:, None], targets[:, None], losses.squared_error, k1=1, k2=T
    )
    return relative(found, jax.grad(total_loss(cell, xs, targets))(params))


@oracle("Ω of a tanh network, T = 12", "its definition, by explicit Jacobians", "relative", 1e-10)
def omega():
    cell = network(cells.elman_preactivation(H, dtype=FLOAT))
    params, xs, targets = drawn(cell)
    objective = lambda ys: losses.per_step(losses.squared_error, ys, targets).sum()
    states = rnn_jax.trajectory(cell, params, xs)
    step = lambda h, x: cell.step(params, h, x)[0]
    ys = rnn_jax.unroll(cell, params, xs)[1]

    def from_state(t, h):
        """Return E of a run that goes on from the state h after t + 1 steps."""
        parts = [ys[:t], (params.V @ jnp.tanh(h) + params.c)[None]]
        if t + 1 < T:
            parts.append(rnn_jax.unroll(cell, params, xs[t + 1 :], h)[1])
        return objective(jnp.concatenate(parts))

    terms = []
    for k in range(T):
        g = jax.grad(lambda h, t=k: from_state(t, h))(states[k + 1])
        back = g @ jax.jacobian(step)(states[k], xs[k])
        terms.append((jnp.linalg.norm(back) / jnp.linalg.norm(g) - 1) ** 2)
    found = gradients.omega(cell, params, xs, objective)
    return abs(float(found / sum(terms)) - 1)
