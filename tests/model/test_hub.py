"""Fetching from the hub, against a stand-in on loopback: each failure is one line, and nothing half fetched is used.

huggingface_hub reads its settings when it is imported, so each fetch is a process of its own, in which every other
address is refused.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import GATED, MISSING, Hub, commit_of, files_of, serving
from random_gpt2 import write_random_gpt2

REPO, SHORT = "openai-community/gpt2", "gpt2"
ONLY_LOOPBACK = """
import socket, sys
connect = socket.socket.connect
def only(self, address):
    if address[0] not in ("127.0.0.1", "::1") or address[1] != PORT:
        print("REACHED", address, file=sys.stderr)
        raise OSError("refused")
    return connect(self, address)
socket.socket.connect = only
"""
FULL_DISK = """
import errno, huggingface_hub.file_download as client
def http_get(url, temp_file, **options):
    temp_file.write(b"x" * 1000)
    raise OSError(errno.ENOSPC, "No space left on device")
client.http_get = http_get
"""
SMALL_PIECES = """
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1000
"""
FINGERPRINT = "import neurons; print(neurons.load_model({}).fingerprint)"
COMMAND = "import sys; from neurons.cli.main import main; sys.argv = ['neurons', *{}]; main()"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("hub")
    return tuple(write_random_gpt2(folder / str(seed), seed=seed) for seed in (0, 1))  # type: ignore[return-value]


@pytest.fixture
def hub(checkpoints: tuple[Path, Path]) -> Iterator[Hub]:
    main, early = map(files_of, checkpoints)
    with serving(Hub({REPO: {"main": main, "checkpoint-400": early}})) as found:
        yield found


def in_process(hub: Hub, folder: Path, code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    port = ONLY_LOOPBACK.replace("PORT", str(hub.port))
    return subprocess.run(
        [sys.executable, "-c", port + code],
        env={**kept, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder), "OMP_NUM_THREADS": "1",
             "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **settings},
        capture_output=True, text=True, timeout=300, check=False, cwd=folder,
    )  # fmt: skip


def line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that a failed command leaves."""
    assert done.returncode == code, done.stderr
    assert "REACHED" not in done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if "incomplete" in path.name or path.name == "model.safetensors"]


def fingerprint(folder: Path) -> str:
    from neurons.model.files import find_checkpoint

    return find_checkpoint(folder).fingerprint


def test_the_first_run_fetches_with_a_progress_bar_and_the_second_needs_no_network(
    hub: Hub, tmp_path: Path, checkpoints: tuple[Path, Path]
) -> None:
    first = in_process(hub, tmp_path, COMMAND.format(["models", "--download", SHORT, "--json"]))
    assert first.returncode == 0, first.stderr
    assert "100%" in first.stderr
    assert f"gpt2 is in {tmp_path}" in first.stderr
    assert hub.ranges == ["all"]
    hub.asked.clear()
    second = in_process(hub, tmp_path, FINGERPRINT.format(repr(SHORT)))
    assert second.stdout.strip() == fingerprint(checkpoints[0])
    assert hub.asked == []


def test_a_revision_is_fetched_beside_the_other_and_named_in_notes(
    hub: Hub, tmp_path: Path, checkpoints: tuple[Path, Path]
) -> None:
    both = [FINGERPRINT.format(f"{SHORT!r}, revision={revision!r}") for revision in (None, "checkpoint-400")]
    about = "found = neurons.Study('gpt2@checkpoint-400').plan.checkpoint; print(found.name, found.notes)"
    done = in_process(hub, tmp_path, "\n".join([*both, about]))
    assert done.returncode == 0, done.stderr
    main, early, named = done.stdout.splitlines()
    assert [main, early] == [fingerprint(folder) for folder in checkpoints]
    assert named.startswith(
        "gpt2@checkpoint-400 ('revision checkpoint-400, commit " + commit_of(files_of(checkpoints[1]))
    )


def test_a_broken_connection_is_taken_up_where_it_broke(
    hub: Hub, tmp_path: Path, checkpoints: tuple[Path, Path]
) -> None:
    hub.cuts = 2
    done = in_process(hub, tmp_path, SMALL_PIECES + FINGERPRINT.format(repr(SHORT)))
    assert done.stdout.strip() == fingerprint(checkpoints[0]), done.stderr
    size = len(files_of(checkpoints[0])["model.safetensors"])
    assert hub.ranges == ["all", f"bytes={size // 2 // 1000}000-", hub.ranges[2]]
    assert size // 2 < int(hub.ranges[2][len("bytes=") : -1]) < size


FAILURES: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "another checksum": (
        SHORT,
        {"is_damaged": True},
        1,
        "model.safetensors of openai-community/gpt2 came with another",
    ),
    "gated": (GATED, {}, 1, f"{GATED} is gated: accept its terms on the hub, run `hf auth login`"),
    "missing": (MISSING, {}, 2, f"unknown model '{MISSING}'"),
    "revision": (f"{SHORT}@nowhere", {}, 2, "openai-community/gpt2 has no revision 'nowhere'"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_one_line_and_leaves_nothing_half_fetched(hub: Hub, tmp_path: Path, failure: str) -> None:
    name, settings, code, message = FAILURES[failure]
    vars(hub).update(settings)
    said = line(in_process(hub, tmp_path, COMMAND.format(["behaviour", "--model", name])), code)
    assert said.startswith(f"neurons: {message}")
    assert left_over(tmp_path) == []


def test_a_full_disk_is_one_line_and_the_next_run_fetches_the_rest(
    hub: Hub, tmp_path: Path, checkpoints: tuple[Path, Path]
) -> None:
    command = COMMAND.format(["models", "--download", SHORT])
    said = line(in_process(hub, tmp_path, FULL_DISK + command), 1)
    assert said.startswith("neurons: the disk is full, gpt2 was not fetched and nothing of it is half kept")
    assert left_over(tmp_path) == []
    again = in_process(hub, tmp_path, FINGERPRINT.format(repr(SHORT)))
    assert again.stdout.strip() == fingerprint(checkpoints[0])


def test_without_a_network_a_model_that_is_not_there_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = in_process(hub, tmp_path, COMMAND.format(["behaviour", "--model", SHORT]), HF_HUB_OFFLINE="1")
    assert line(done, 1).startswith("neurons: gpt2 is not in the local hub cache and cannot be fetched now")


@pytest.mark.parametrize("name", ["mini@main", "gpt2@", "gpt2@a b"])
def test_a_revision_of_what_has_none_is_refused(name: str) -> None:
    from neurons.model.files import find_checkpoint
    from neurons.types import InputError

    with pytest.raises(InputError, match=r"has no revisions|invalid revision"):
        find_checkpoint(name)
