"""Peak memory does not grow with the number of prompts."""

import subprocess
import sys
from pathlib import Path

import pytest
from random_gpt2 import write_random_gpt2

pytestmark = pytest.mark.long

ASKED = {
    500: ["--nouns", "5", "--centuries", "17"],
    5_000: ["--nouns", "7", "--centuries", "all"],
    50_000: ["--nouns", "70", "--centuries", "all"],
}
"""Options that give about so many prompts."""


LAUNCH = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "neurons", *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A small process starts the command, because a process's peak begins with what its parent had."""


def peak(*arguments: str) -> float:
    """MB of memory that `neurons` had at most."""
    done = subprocess.run([sys.executable, "-c", LAUNCH, *arguments], stdout=subprocess.PIPE, check=True)
    return int(done.stdout) / 1024


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("memory")
    checkpoint = write_random_gpt2(folder / "small", n_layer=3, n_embd=16)
    return ["--model", str(checkpoint), "--cache-dir", str(folder / "cache")]


@pytest.fixture(scope="module")
def built(small: list[str]) -> dict[int, float]:
    """Peak memory of each build, without its attribution, which is then made: analyses read what is kept.

    Attribution weighs each start year's prompts, so its own memory grows with them: 330 MB at 500, 440 at 50,000.
    """
    built = {prompts: peak("cache", "build", "--no-attribution", *small, *asked) for prompts, asked in ASKED.items()}
    for asked in ASKED.values():
        peak("cache", "build", *small, *asked)
    return built


def flat(peaks: dict[int, float]) -> bool:
    return max(peaks.values()) <= 1.15 * min(peaks.values())


def test_a_build_is_flat_in_the_number_of_prompts(built: dict[int, float]) -> None:
    sys.stdout.write(f"build, MB at so many prompts: {built}")
    assert flat(built), built


@pytest.mark.parametrize(
    "command",
    [
        ["rank"],
        ["behaviour"],
        ["effect", "L2N1", "--year", "32"],
        ["cluster"],
        ["compose"],
    ],
    ids=lambda c: c[0],
)
def test_an_analysis_is_flat_in_the_number_of_prompts(
    small: list[str], built: dict[int, float], command: list[str]
) -> None:
    peaks = {prompts: peak(*command, *small, *asked) for prompts, asked in ASKED.items()}
    sys.stdout.write(f"{command[0]}, MB at so many prompts: {peaks}")
    assert flat(peaks), peaks


def test_gpt2_small_fits_a_laptop(tmp_path: Path) -> None:
    checkpoint = write_random_gpt2(
        tmp_path / "wide", n_layer=12, n_embd=768, n_head=12, n_positions=1024, vocab_size=50257
    )
    """Without its attribution, which `scripts/benchmark.py attribution` measures."""
    asked = ["--model", str(checkpoint), "--nouns", "20", "--centuries", "draw", "--cache-dir", str(tmp_path / "cache")]
    megabytes = peak("cache", "build", "--no-attribution", *asked)
    sys.stdout.write(f"GPT-2 small's shape, about 2,000 prompts: {megabytes:.0f} MB")
    assert megabytes < 3000
