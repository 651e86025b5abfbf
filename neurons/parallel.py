"""Independent tasks in this process, in several, or on a cluster: the same code, the same results.

A task is a module's function of one small argument (paths, numbers of blocks; never arrays). joblib runs
them: in spawned processes with `jobs`, on a Dask cluster with `scheduler`, or wherever the caller's own
`joblib.parallel_config(...)` says (Dask, Ray).
"""

import atexit
import gc
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from neurons.types import CacheError, InputError, Progress, check_whole, quoted

Argument = TypeVar("Argument")
Result = TypeVar("Result")

CONNECT_SECONDS = 10
OBJECTS = 1_000_000
"""What a process for tasks makes until it looks for garbage: some 60 drawn figures, 150 MB."""


def collect_seldom(objects: int) -> None:
    """Let this process look for garbage after so many new objects alone, and not at its end.

    Importing torch makes 260,000, none of them garbage; the end takes 0.3 s longer where all that it made is looked at.
    """
    gc.set_threshold(objects)
    atexit.register(gc.freeze)


def is_spread(jobs: int | None, scheduler: str | None) -> bool:
    """Report whether tasks leave this process; raises `InputError` for an invalid number of jobs or address."""
    if jobs is not None and check_whole("jobs", jobs) < 1:
        raise InputError(f"invalid jobs {jobs}: it must be at least 1")
    if scheduler is not None and not (
        isinstance(scheduler, str) and re.fullmatch(r"[a-z]+://[^\s/]+:\d{1,5}", scheduler)
    ):
        raise InputError(f"invalid scheduler {quoted(scheduler)}: write its address like tcp://host:8786")
    return scheduler is not None or (jobs or 1) > 1 or (jobs is None and _has_own_backend())


def run_tasks(
    function: Callable[[Argument], Result],
    tasks: Sequence[Argument],
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Return `function` of every task, in their order.

    jobs: processes on this machine; default the caller's joblib backend, else this process alone.
    scheduler: `tcp://host:port` of a running Dask scheduler. What a task raises is raised here, and the
    others that were finished have left their results where they put them.

    Raises `InputError` where Dask is asked for and not installed, `CacheError` where its scheduler does not
    answer or workers keep dying.
    """
    if not is_spread(jobs, scheduler):
        return list(_one_by_one(function, tasks, progress))
    with _backend(jobs, scheduler) as settings:
        return _in_parallel(function, tasks, settings, progress)


def _one_by_one(
    function: Callable[[Argument], Result], tasks: Sequence[Argument], progress: Progress | None
) -> Iterator[Result]:
    for done, task in enumerate(tasks, 1):
        yield function(task)
        if progress:
            progress(done, len(tasks))


def _in_parallel(
    function: Callable[[Argument], Result],
    tasks: Sequence[Argument],
    settings: dict[str, Any],
    progress: Progress | None,
) -> list[Result]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    class Counting(Parallel):  # type: ignore[misc]
        """joblib's own hook for progress: called after each finished task, whatever the backend."""

        def print_progress(self) -> None:
            if progress:
                progress(min(self.n_completed_tasks, len(tasks)), len(tasks))

    try:
        return list(Counting(batch_size=1, **settings)(delayed(function)(task) for task in tasks))
    except TerminatedWorkerError:
        raise CacheError(
            "a worker process was killed (out of memory?); what was finished is kept: run again, with fewer jobs"
        ) from None
    except Exception as error:
        if type(error).__name__ == "KilledWorker":  # Dask's, which may not be installed
            raise CacheError("workers of the cluster keep dying; what was finished is kept: see their logs") from None
        raise


@contextmanager
def _backend(jobs: int | None, scheduler: str | None) -> Iterator[dict[str, Any]]:
    """Yield joblib's settings; a connection to the scheduler is closed again."""
    if scheduler is None:
        seldom = {"initializer": collect_seldom, "initargs": (OBJECTS,)}
        yield {} if jobs is None else {"n_jobs": jobs, "backend": "loky", **seldom}
        return
    from joblib import parallel_config

    with _client(scheduler) as client, parallel_config("dask", client=client):
        yield {}


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise InputError("a scheduler needs Dask: pip install 'neurons[cluster]'") from None
    host, _, port = scheduler.partition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError:
        raise CacheError(f"scheduler {scheduler} does not answer: start it with `dask scheduler`") from None
    try:
        yield client
    finally:
        client.close()


def _has_own_backend() -> bool:
    """Report whether the caller set a joblib backend, by `joblib.parallel_config` or `parallel_backend`."""
    joblib = sys.modules.get("joblib.parallel")
    if joblib is None:  # who set one has imported it
        return False
    config = getattr(joblib._backend, "config", {})
    return isinstance(config.get("backend"), joblib.ParallelBackendBase)
