"""A build, shares, and a sweep of exact effects, on two processes and on two Dask workers against one process.

Every process has one thread, so that bytes can be equal.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.pairs import Row, Turns, alternate, row
from benchmarks.setting import Setting, environment, python

NOUNS, EXACT, PAIRS = "6", "16", 1
"""Nouns of the prompts, neurons of the sweep."""
SHARES = """
import sys, neurons
from neurons.attribution.shares import attribute
from neurons.attribution.spread import spread_shares
model, folder, nouns, *where = sys.argv[1:]
study = neurons.Study(model, cache_dir=folder, nouns=int(nouns), centuries="draw")
if where:
    spread_shares(study.context(), **{where[0]: int(where[1]) if where[0] == "jobs" else where[1]})
for found in attribute(study.context(), keep=True).values():
    sys.stdout.buffer.write(found.by_century.tobytes() + found.written_by_century.tobytes())
"""


class Spread:
    """Commands on the model that leave their results in a fresh folder."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def build(self, *where: str) -> bytes:
        """The bytes of the cache file."""
        with self._fresh() as folder:
            self._run("cache", "build", *self._prompts(folder), "--no-attribution", *where)
            return next(folder.glob("*.h5")).read_bytes()

    def shares(self, *where: str) -> bytes:
        """Shares of all neurons, in every century and start year; the cache is copied from one that is there."""
        with self._fresh() as folder:
            shutil.copytree(self._cached, folder, dirs_exist_ok=True)
            asked = (self.setting.checkpoint, str(folder), NOUNS, *(one.removeprefix("--") for one in where))
            return self._python("-c", SHARES, *asked)

    def sweep(self, *where: str) -> bytes:
        """What is printed of exact effects; the cache is copied from one that is there."""
        with self._fresh() as folder:
            shutil.copytree(self._cached, folder, dirs_exist_ok=True)
            asked = ("--no-attribution", "--exact", EXACT, "--json")
            return self._run("causal", *self._prompts(folder), *asked, *where)

    @property
    def _cached(self) -> Path:
        folder = self.setting.folder / "spread"
        if not folder.exists():
            self._run("cache", "build", *self._prompts(folder), "--no-attribution")
        return folder

    def _prompts(self, folder: Path) -> tuple[str, ...]:
        return ("--model", self.setting.checkpoint, "--nouns", NOUNS, "--centuries", "draw", "--cache-dir", str(folder))

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.setting.folder) as folder:
            yield Path(folder)

    def _run(self, *arguments: str) -> bytes:
        return self._python("-m", "neurons", *arguments)

    def _python(self, *arguments: str) -> bytes:
        one_thread = environment() | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(python(*arguments), env=one_thread, stdout=subprocess.PIPE, check=True).stdout


def rows(setting: Setting) -> list[Row]:
    spread = Spread(setting)
    works = {
        f"cache build of {NOUNS} nouns": spread.build,
        "shares of all neurons, the same prompts": spread.shares,
        f"exact effects of {EXACT} neurons, the same prompts": spread.sweep,
    }
    with cluster(setting.folder / "cluster") as address:
        places = {"--jobs 2": ("--jobs", "2"), "two Dask workers": ("--scheduler", address)}
        return [_row(what, work, name, where) for what, work in works.items() for name, where in places.items()]


def _row(what: str, work: Callable[..., bytes], name: str, where: tuple[str, ...]) -> Row:
    def differ(ours: bytes, peer: bytes) -> float:
        return float(ours != peer)

    times, apart = alternate(Turns(lambda _: work(*where), lambda _: work(), differ), pairs=PAIRS, warm_up=False)
    return row(
        "spread",
        times,
        work=f"{what}, {name}, whole process",
        peer_is="the same in one process",
        found=apart,
        tolerance=0,
        notes=[f"{what}, {name}: bytes are equal; one thread a process"],
    )


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A Dask scheduler on a free port of this machine and two workers of one thread; gives its address."""
    folder.mkdir(parents=True, exist_ok=True)
    where = folder / "scheduler.json"
    running = [_dask(folder, "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(where))]
    try:
        address = _address(where, running[0])
        options = ("--nthreads", "1", "--death-timeout", "30", "--local-directory", str(folder))
        running += [_dask(folder, "worker", address, *options) for _ in range(2)]
        yield address
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


def _address(where: Path, scheduler: "subprocess.Popen[bytes]") -> str:
    """Which the scheduler writes to a file."""
    while not where.exists() or not where.read_text(encoding="utf-8").endswith("}"):
        if scheduler.poll() is not None:
            raise SystemExit("the Dask scheduler did not start: pip install 'neurons[cluster]'")
        time.sleep(0.1)
    return str(json.loads(where.read_text(encoding="utf-8"))["address"])


def _dask(folder: Path, what: str, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, "--no-dashboard"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=one_thread, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
