"""The tests. Here is what must be in the environment before JAX is imported."""

import os
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".jax_cache"

# Small programs, each run a few times: what takes time is tracing and compiling them. Of flags that
# are given twice XLA takes the last.
FLAGS = (
    "--xla_force_host_platform_device_count=2",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_disable_hlo_passes=simplify-while-loops,while-loop-invariant-code-motion,reshape-mover",
    *(("--xla_cpu_use_fusion_emitters=false",) if version("jax") < "0.12" else ()),
)
GIVEN = os.environ.get("XLA_FLAGS", "")
if FLAGS[0] not in GIVEN:  # a worker has its parent's; the flags are part of the keys of the cache
    os.environ["XLA_FLAGS"] = " ".join([GIVEN, *FLAGS]).strip()

# The next run finds compiled programs here, and so do processes that tests start. An entry that
# another process is just writing counts as none: JAX warns (see pyproject.toml) and compiles.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
