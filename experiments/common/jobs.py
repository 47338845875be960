"""Jobs on local processes or on Slurm, by submitit: the same call on both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rnn_jax.errors import optional

SECONDS_BETWEEN_LOOKS = 0.5


class Where(NamedTuple):
    """Where jobs run.

    Attributes:
      workers: most jobs at a time.
      cluster: "local" processes, or "slurm".
      minutes: after which a job is stopped.
      partition: Slurm's; None for its default.
      cpus, gpus: of each job.
    """

    workers: int
    cluster: Literal["local", "slurm"]
    minutes: int
    partition: str | None
    cpus: int
    gpus: int


def run_jobs(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], where: Where, folder: Path
) -> Iterator[tuple[int, Exception | None]]:
    """Call a function in jobs of their own; yield which has ended, and its error if it had one.

    Args:
      function: one that can be imported.
      calls: its arguments, job by job.
      where: where they run.
      folder: for what submitit keeps: pickles, output and errors of each job.

    Raises:
      ImportError: submitit is not installed.
    """
    optional("submitit", "pip install submitit, or the extra [experiments]")
    import submitit

    executor = submitit.AutoExecutor(folder=folder, cluster=where.cluster)
    executor.update_parameters(
        timeout_min=where.minutes, cpus_per_task=where.cpus, gpus_per_node=where.gpus
    )
    if where.cluster == "slurm":
        executor.update_parameters(slurm_array_parallelism=where.workers)
        if where.partition is not None:
            executor.update_parameters(slurm_partition=where.partition)
        with executor.batch():
            waiting = [executor.submit(function, *call) for call in calls]
        running, calls_left = dict(enumerate(waiting)), []
    else:
        running, calls_left = {}, list(enumerate(calls))
    try:
        while running or calls_left:
            # Slurm keeps to the number of workers by itself, local processes do not.
            while calls_left and len(running) < where.workers:
                number, call = calls_left.pop(0)
                running[number] = executor.submit(function, *call)
            ended = [number for number, job in running.items() if job.done()]
            for number in ended:
                yield number, running.pop(number).exception()
            if not ended:
                time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        # After Ctrl-C, that is: what a job has finished or kept is in its folder.
        for job in running.values():
            job.cancel()
