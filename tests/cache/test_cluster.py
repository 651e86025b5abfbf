"""The same numbers from one process, several, and a cluster; workers that die lose nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, cluster
from random_gpt2 import write_random_gpt2

from neurons.parallel import is_spread, run_tasks
from neurons.types import CacheError, InputError

NOUNS, LAYERS = "6", "0-1"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gpt2(tmp_path_factory.mktemp("checkpoint") / "small", n_layer=2, n_embd=64)


def start(checkpoint: Path, cache_dir: Path, *options: str) -> "subprocess.Popen[str]":
    """`neurons cache build`, one processor thread a task."""
    asked = [
        "--model",
        str(checkpoint),
        "--nouns",
        NOUNS,
        "--centuries",
        "draw",
        "--layers",
        LAYERS,
        "--cache-dir",
        str(cache_dir),
        "--no-attribution",
    ]
    command = [sys.executable, "-m", "neurons", "cache", "build", *asked, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def end(process: "subprocess.Popen[str]") -> None:
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err


def build(checkpoint: Path, cache_dir: Path, *options: str) -> bytes:
    end(start(checkpoint, cache_dir, *options))
    (path,) = cache_dir.iterdir()
    return path.read_bytes()


@pytest.fixture(scope="module")
def local(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file that one process builds."""
    return build(checkpoint, tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.mark.long
@pytest.mark.parametrize("jobs", [2, 3])
def test_several_processes_build_the_same_bytes(checkpoint: Path, local: bytes, tmp_path: Path, jobs: int) -> None:
    assert build(checkpoint, tmp_path / "cache", "--jobs", str(jobs)) == local


@pytest.mark.long
def test_a_cluster_builds_the_same_bytes(checkpoint: Path, local: bytes, running: Cluster, tmp_path: Path) -> None:
    assert build(checkpoint, tmp_path / "cache", "--scheduler", running.address) == local


@pytest.mark.long
def test_the_callers_own_joblib_backend_is_used(
    checkpoint: Path, local: bytes, running: Cluster, tmp_path: Path
) -> None:
    """The example of docs/cluster.md, with the places of this test in it."""
    document = (Path(__file__).parents[2] / "docs/cluster.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", document, flags=re.M | re.S)
    places = {"tcp://host:8786": running.address, "/shared/checkpoint": str(checkpoint),
              "range(8, 12)": "[0, 1]", "nouns=6": "nouns=6, centuries='draw'",
              "/shared/cache": str(tmp_path / "cache")}  # fmt: skip
    for there, here in places.items():
        assert there in example
        example = example.replace(there, here)
    command = [sys.executable, "-c", example]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    (path,) = (tmp_path / "cache").iterdir()
    assert path.read_bytes() == local
    logs = "".join((running.folder / f"worker-{i}" / "log").read_text() for i in range(2))
    assert "Traceback" not in logs


@pytest.mark.long
def test_a_worker_killed_midway_does_not_lose_the_result(checkpoint: Path, local: bytes, tmp_path: Path) -> None:
    with cluster(tmp_path / "cluster") as mortal:
        process = start(checkpoint, tmp_path / "cache", "--scheduler", mortal.address)
        while not list(tmp_path.glob("cache/*.parts/block-*.npz")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        mortal.workers[0].kill()
        end(process)
    (path,) = (tmp_path / "cache").iterdir()
    assert path.read_bytes() == local


def causal(folder: Path, checkpoint: Path, *options: str) -> dict[str, object]:
    """The sweep over all neurons, on a cache that is there."""
    asked = [
        "--model",
        str(checkpoint),
        "--nouns",
        NOUNS,
        "--centuries",
        "draw",
        "--layers",
        LAYERS,
        "--cache-dir",
        str(folder),
    ]
    command = [sys.executable, "-m", "neurons", "causal", *asked, "--exact", "64", "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return json.loads(done.stdout)


@pytest.mark.long
def test_a_causal_sweep_is_the_same_everywhere(checkpoint: Path, running: Cluster, tmp_path: Path) -> None:
    build(checkpoint, tmp_path / "one")
    for name in ("two", "three"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    local = causal(tmp_path / "one", checkpoint)
    assert causal(tmp_path / "two", checkpoint, "--scheduler", running.address) == local
    assert causal(tmp_path / "three", checkpoint, "--jobs", "2") == local
    kept = [{path.name for path in (tmp_path / name).glob("*.causal-*/*.npz")} for name in ("one", "two", "three")]
    assert kept[0] == kept[1] == kept[2] != set()


def attributed(checkpoint: Path, cache_dir: Path, *options: str) -> dict[str, bytes]:
    """All files of a cache with its shares, which `start` leaves out."""
    asked = ["--model", str(checkpoint), "--nouns", NOUNS, "--centuries", "draw", "--cache-dir", str(cache_dir)]
    command = [sys.executable, "-m", "neurons", "cache", "build", *asked, "--layers", LAYERS, *options]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return {path.name: path.read_bytes() for path in cache_dir.iterdir()}


@pytest.mark.long
def test_shares_are_the_same_everywhere(checkpoint: Path, running: Cluster, tmp_path: Path) -> None:
    local = attributed(checkpoint, tmp_path / "one")
    assert len(local) > 1
    assert attributed(checkpoint, tmp_path / "two", "--jobs", "2") == local
    assert attributed(checkpoint, tmp_path / "three", "--scheduler", running.address) == local


# --- tasks -----------------------------------------------------------------------------------------


def square(number: int) -> int:
    return number * number


def test_tasks_come_back_in_order_and_are_counted() -> None:
    seen: list[tuple[int, int]] = []
    assert run_tasks(square, [3, 1, 2], progress=lambda done, total: seen.append((done, total))) == [9, 1, 4]
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.long
def test_tasks_of_several_processes_come_back_in_order_and_are_counted() -> None:
    seen: list[tuple[int, int]] = []
    found = run_tasks(pow_of_two, list(range(9)), jobs=2, progress=lambda done, total: seen.append((done, total)))
    assert found == [2**n for n in range(9)]
    assert seen[-1] == (9, 9)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


pow_of_two = (2).__pow__


@pytest.mark.long
def test_a_killed_worker_process_is_one_line() -> None:
    program = "import os\nfrom neurons.parallel import run_tasks\nrun_tasks(os._exit, [9, 9], jobs=2)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        "neurons.types.CacheError: a worker process was killed (out of memory?); what was finished is kept"
        in (done.stderr.splitlines()[-1])
    )


@pytest.mark.parametrize("jobs", [0, -1])
def test_a_number_of_jobs_that_cannot_be_meant_is_refused(jobs: int) -> None:
    with pytest.raises(InputError, match=f"invalid jobs {jobs}: it must be at least 1"):
        is_spread(jobs, None)


def test_one_job_stays_in_this_process() -> None:
    assert not is_spread(None, None)
    assert not is_spread(1, None)
    assert is_spread(2, None)
    assert is_spread(None, "tcp://somewhere:8786")


@pytest.mark.parametrize("address", ["not an address", "tcp://x:y", "localhost:8786", ""])
def test_what_is_no_address_of_a_scheduler_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="write its address like tcp://host:8786"):
        is_spread(None, address)


@pytest.mark.long
def test_a_scheduler_that_is_not_there_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    process = start(checkpoint, tmp_path / "cache", "--scheduler", "tcp://127.0.0.1:1")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert err == "neurons: scheduler tcp://127.0.0.1:1 does not answer: start it with `dask scheduler`\n"


@pytest.mark.long
def test_workers_that_cannot_see_the_folder_are_one_line(running: Cluster, tmp_path: Path) -> None:
    task = {"checkpoint": "mini", "fingerprint": "0", "folder": str(tmp_path / "nowhere"), "digest": "0", "block": 0}
    program = (
        "import json, sys\nfrom neurons.cache.compute import Task, compute_part\n"
        "from neurons.parallel import run_tasks\n"
        "run_tasks(compute_part, [Task(**json.loads(sys.argv[2]))], scheduler=sys.argv[1])"
    )
    command = [sys.executable, "-c", program, running.address, json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "must be shared by all machines" in done.stderr.splitlines()[-1]
    assert CacheError.__name__ in done.stderr.splitlines()[-1]
