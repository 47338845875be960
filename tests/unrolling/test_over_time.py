"""What unroll promises at the edges: padding, precision, overflow, buffers, compilation, sizes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import rnn_jax
from rnn_jax import cells
from rnn_jax.transforms.serialization import register_classes
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE


@pytest.mark.parametrize("name", cells.CELLS)
def test_every_leaf_of_a_state_has_a_buffer_of_its_own(name):
    cell = cells.CELLS[name](4)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    leaves = jax.tree.leaves((cell.initial_state(params, (5,)), params))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_a_given_state_is_not_donated_away():
    h = jnp.zeros(3)
    cell = cells.from_function(lambda p, s, x: ((s[1] + x, s[0]), x), (h, h))
    for _ in range(2):
        jax.jit(cell.step, donate_argnums=1)({}, cell.initial_state({}), jnp.ones(3))


@pytest.mark.parametrize("strategy", ["scan", "auto", "fused", "checkpointed"])
def test_a_value_that_is_closed_over_is_differentiated(strategy):
    def E(leak, xs):
        def pointwise(h, a):
            h = (1 - leak) * h + leak * jnp.tanh(a)
            return h, h

        cell = cells.gated(4, 1, pointwise, dtype=jnp.float64)
        params = cell.init(jax.random.key(0), INPUT_SIZE)
        return (rnn_jax.unroll(cell, params, xs, strategy=strategy)[1] ** 2).sum()

    xs = normal(1, 6, 2, INPUT_SIZE)
    slope = (E(0.3 + 1e-6, xs) - E(0.3 - 1e-6, xs)) / 2e-6
    np.testing.assert_allclose(jax.grad(E)(0.3, xs), slope, rtol=1e-7)
    np.testing.assert_allclose(jax.jit(jax.grad(E))(0.3, xs), slope, rtol=1e-7)


def test_gradients_outside_jit_compile_once(compilations):
    cell = cells.gru(4, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 3), normal(1, 8, 3)
    batch = normal(2, 2, 8, 3)
    E = lambda params, xs, strategy: rnn_jax.unroll(cell, params, xs, strategy=strategy)[1].sum()
    calls = [
        lambda: jax.vmap(lambda xs: E(params, xs, "auto"))(batch),
        *(lambda s=s: jax.grad(E)(params, xs, s) for s in ("auto", "scan", "checkpointed")),
    ]
    for call in calls:
        for _ in range(2):
            call()
        before = compilations[0]
        call()
        assert compilations[0] == before


def test_programs_go_with_their_cell():
    import gc
    import weakref

    def alive():
        cell = cells.elman(2, dtype=jnp.float64)
        rnn_jax.unroll(cell, cell.init(jax.random.key(0), 1), jnp.ones((3, 1)))
        return weakref.ref(cell)

    refs = [alive() for _ in range(3)]
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 1  # JAX may keep the last one


@pytest.mark.parametrize("shape", ["20, b, 3", "t, 2, 3", "t, b, 3"])
@pytest.mark.parametrize("strategy", ["scan", "auto", "fused", "parallel", "checkpointed"])
def test_exports_with_any_batch_and_length(shape, strategy):
    cell = cells.min_gru(4, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 3), normal(1, 20, 2, 3)
    run = lambda p, xs: rnn_jax.unroll(cell, p, xs, strategy=strategy)[1]
    spec = export.symbolic_args_specs((xs,), (shape,))
    exported = export.export(jax.jit(run))(params, *spec)
    np.testing.assert_allclose(exported.call(params, xs), run(params, xs), rtol=1e-12)


def test_classes_are_registered_for_export():
    kinds = {type(make(4).init(jax.random.key(0), 3)) for make in cells.CELLS.values()}
    for kind in kinds:
        with pytest.raises(ValueError, match="uplicate"):
            export.register_pytree_node_serialization(
                kind,
                serialized_name=f"test.{kind.__name__}",
                serialize_auxdata=lambda _: b"",
                deserialize_auxdata=lambda _: (),
            )
    register_classes()  # once more does no harm


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("lstm", "auto"), ("lstm", "scan"), ("lstm", "checkpointed"), ("min_gru", "parallel")],
)
def test_explicit_axes(name, strategy):
    if jax.device_count() < 2:
        pytest.skip("one device")
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.PartitionSpec(None, "batch")
    cell = cells.CELLS[name](4, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 3), normal(1, 8, 4, 3)
    shared = jax.device_put(xs, jax.sharding.NamedSharding(mesh, spec))
    lengths = jnp.array([8, 3, 5, 0])
    E = lambda p, xs: (
        rnn_jax.unroll(cell, p, xs, lengths=lengths, strategy=strategy)[1] ** 2
    ).sum()
    expected = jax.jit(jax.value_and_grad(E))(params, xs)
    got = jax.jit(jax.value_and_grad(E))(params, shared)
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(expected), rtol=1e-11)
    ys = rnn_jax.unroll(cell, params, shared, strategy=strategy)[1]
    assert jax.typeof(ys).sharding.spec[1] == "batch"


def test_a_cell_without_state():
    cell = cells.from_function(lambda p, s, x: (s, 2 * x), ())
    xs = normal(1, 5, 2, 3, 4)
    np.testing.assert_array_equal(rnn_jax.unroll(cell, {}, xs)[1], 2 * xs)
