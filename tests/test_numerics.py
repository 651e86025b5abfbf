"""The same answers under other kernels, vector units and thread counts: `make test-numerics`.

Each of `arithmetic.ARITHMETICS` runs twice, in processes of its own: the numerical tests, and four commands on mini
from nothing. They start together, one process a core, and each test waits for its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arithmetic
import numpy as np
import pytest
from arithmetic import ARITHMETICS, COMMANDS, Arithmetic

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(not arithmetic.IS_X86, reason="these kernels are for x86 processors"),
]

HERE = Path(__file__).parent
NUMERICAL = (
    "test_rounding.py", "test_intervals.py", "comparison/test_check_maps.py", "comparison/test_checks.py",
    "decomposition/test_shapes.py", "decomposition/test_scores.py", "decomposition/test_effects.py",
    "decomposition/test_pairing.py", "ranking/test_ranking.py", "clustering/test_tuning.py",
    "clustering/test_clustering.py", "regression/test_composition.py", "model/test_forward.py",
)  # fmt: skip
"""The tests of numbers and of what is decided by them."""
RELATIVE, ABSOLUTE = 1e-5, 1e-6
"""What numbers may part by; measured: 2e-5 in the information criteria, 1e-7 in scores, p values and shares."""
FIRST = ARITHMETICS[0]


@dataclass(frozen=True)
class Runs:
    """What was started, by the arithmetic's name; folder: of the answers of the commands."""

    folder: Path
    commands: dict[str, "Future[subprocess.CompletedProcess[str]]"]
    tests: dict[str, "Future[subprocess.CompletedProcess[str]]"]

    def answers(self, name: str) -> dict[str, Any]:
        done = self.commands[name].result()
        assert done.returncode == 0, done.stdout + done.stderr
        return {command: json.loads((self.folder / name / f"{command}.json").read_text()) for command in COMMANDS}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder, possible = tmp_path_factory.mktemp("numerics"), [one for one in ARITHMETICS if not one.missing]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        commands = {one.name: pool.submit(_child, one, "commands", _made(folder / one.name)) for one in possible}
        files = [HERE / name for name in NUMERICAL]
        tests = {one.name: pool.submit(_child, one, "tests", *files) for one in possible}
        yield Runs(folder, commands, tests)
        pool.shutdown(cancel_futures=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _child(one: Arithmetic, *asked: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, arithmetic.__file__, one.name, *map(str, asked)]
    return subprocess.run(command, env=one.environment(), cwd=HERE.parent, capture_output=True, text=True, check=False)


def _each(skipping: tuple[Arithmetic, ...] = ()) -> list[Any]:
    return [
        pytest.param(one, id=one.name, marks=pytest.mark.skipif(bool(one.missing), reason=f"no {one.missing} here"))
        for one in ARITHMETICS
        if one not in skipping
    ]


@pytest.mark.parametrize("one", _each(skipping=(FIRST,)))
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_the_same_of_mini(runs: Runs, one: Arithmetic, command: str) -> None:
    assert list(_different(runs.answers(FIRST.name)[command], runs.answers(one.name)[command])) == []


@pytest.mark.parametrize("one", _each())
def test_the_numerical_tests_pass(runs: Runs, one: Arithmetic) -> None:
    done = runs.tests[one.name].result()
    assert done.returncode == 0, done.stdout + done.stderr


def test_other_kernels_do_compute_other_bits(runs: Runs) -> None:
    last = [one for one in ARITHMETICS if not one.missing][-1]
    if last == FIRST:
        pytest.skip("this processor has one kernel only")
    assert runs.answers(FIRST.name)["rank"] != runs.answers(last.name)["rank"]


def test_every_kernel_unit_and_thread_count_is_there() -> None:
    assert {one.openblas for one in ARITHMETICS} == {"Prescott", "Sandybridge", "Haswell", "Zen", "SkylakeX"}
    assert {one.torch for one in ARITHMETICS} == {"default", "avx2", "avx512"}
    assert {one.threads for one in ARITHMETICS} == {1, 2, 4}


def test_a_child_inherits_no_run_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COV_CORE_SOURCE", "COVERAGE_PROCESS_START", "PYTEST_XDIST_WORKER", "OPENBLAS_L2_SIZE"):
        monkeypatch.setenv(name, "1")
        assert name not in FIRST.environment()


def _different(first: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two answers differ: in structure, words, counts and order at all, in numbers by more than the tolerance."""
    if isinstance(first, dict) and isinstance(other, dict) and list(first) == list(other):
        for name in first:
            yield from _different(first[name], other[name], f"{place}/{name}")
    elif isinstance(first, list) and isinstance(other, list) and len(first) == len(other):
        for i, pair in enumerate(zip(first, other, strict=True)):
            yield from _different(*pair, f"{place}/{i}")
    elif isinstance(first, float) and isinstance(other, float):
        if not np.isclose(first, other, rtol=RELATIVE, atol=ABSOLUTE):
            yield f"{place}: {first!r}, {other!r}"
    elif first != other:
        yield f"{place}: {first!r}, {other!r}"
