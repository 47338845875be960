"""Strictness of the whole suite, which cells a law is held against, and fixtures."""

import gc
import itertools
import shutil

import jax
import pytest

from tests import CACHE
from tests.lawful_cells import (
    LAWFUL,
    cell_named,
    one_of_each_kind,
    one_of_each_route,
    params_named,
)

gc.set_threshold(200_000, 20, 100)  # collections after every 700 objects took a tenth of the time
gc.freeze()
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

TESTS_RUN = itertools.count(1)
MAX_CACHE_BYTES = 2**30
MAX_MEMORY_MAPS = 30_000
"""Of the 65,530 that Linux lets a process have; every compiled program takes some."""


MARKERS = (
    "one_of_each_kind: a law of drivers: for one cell of each kind, unless --all-cells is given",
    "one_of_each_route: a case that asks a driver no more than which way a cell goes over time",
    "all_cells: a case that others stand for, unless --all-cells is given",
)


def pytest_addoption(parser):
    parser.addoption(
        "--all-cells",
        action="store_true",
        help="hold laws of drivers against every cell, not one of each kind of structure",
    )


def pytest_configure(config):
    """Register the markers, and begin anew once the cache is large."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if not hasattr(config, "workerinput") and CACHE.exists():
        size = sum(entry.stat().st_size for entry in CACHE.iterdir())
        if size > MAX_CACHE_BYTES:
            shutil.rmtree(CACHE)


def cell_of(item):
    """The name of the cell that a law is held against; None for a test of no such parameter."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("lawful", params.get("name"))


def pytest_collection_modifyitems(config, items):
    """Keep one cell of each kind or route, of tests that are marked so."""
    if config.getoption("--all-cells"):
        return
    dropped = {item for item in items if item.get_closest_marker("all_cells")}
    for choose in (one_of_each_kind, one_of_each_route):
        marked = {item for item in items if item.get_closest_marker(choose.__name__)}
        kept = {*(choose() if marked else ()), None}
        dropped |= {item for item in marked if cell_of(item) not in kept}
    config.hook.pytest_deselected(items=list(dropped))
    items[:] = [item for item in items if item not in dropped]


def memory_maps():
    """Count this process's, on Linux; elsewhere none are known to run out."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            return sum(1 for _ in maps)
    except OSError:
        return 0


@pytest.fixture(autouse=True)
def few_programs_at_a_time():
    """Thousands of compiled programs would exhaust the memory maps that a process may have."""
    yield
    if next(TESTS_RUN) % 25 == 0 and memory_maps() > MAX_MEMORY_MAPS:
        jax.clear_caches()


@pytest.fixture
def compilations():
    """How many programs the test has compiled: `[count]`."""
    count = [0]

    def listen(name, seconds, **_):
        count[0] += "backend_compile" in name

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def optax_promotes():
    """Optax multiplies floats by integer counts, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(params=LAWFUL, scope="module")
def lawful(request):
    """The name of every lawful cell."""
    return request.param


@pytest.fixture(scope="module")
def cell(lawful):
    return cell_named(lawful)


@pytest.fixture(scope="module")
def params(lawful):
    return params_named(lawful)
