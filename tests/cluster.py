"""A Dask cluster on this machine: a scheduler and workers, each a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class Cluster:
    address: str
    folder: Path
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def add_worker(self) -> "subprocess.Popen[bytes]":
        """A worker of one thread. It works in a folder of its own, and sees what it needs by path alone."""
        home = self.folder / f"worker-{len(self.workers)}"
        home.mkdir()
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "30"]
        self.workers.append(_start("distributed.cli.dask_worker", self.address, *options, folder=home))
        return self.workers[-1]


def _start(module: str, *arguments: str, folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=folder, stdout=log, stderr=log)


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A scheduler on a free port of this machine with so many workers; all end with the test."""
    (folder / "scheduler").mkdir(parents=True)
    where = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where)]
    scheduler = _start("distributed.cli.dask_scheduler", *options, folder=folder / "scheduler")
    running = Cluster("", folder)
    try:
        while not where.exists() or not where.read_text().endswith("}"):
            assert scheduler.poll() is None, (folder / "scheduler" / "log").read_text()
            time.sleep(0.1)
        running.address = json.loads(where.read_text())["address"]
        for _ in range(workers):
            running.add_worker()
        yield running
    finally:
        for process in [*running.workers, scheduler]:
            process.kill()
            process.wait()
