"""Other kernels, vector units and thread counts, and processes that compute with them.

`python arithmetic.py NAME commands FOLDER` writes what four commands say of mini, computed from nothing;
`python arithmetic.py NAME tests FILE ...` runs test files. Both first make sure that the libraries really took
the kernels and threads asked for: a misspelt or unsupported one would silently be another.
"""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("rank", "cluster", "compose", "check")
OURS = ("COV_", "COVERAGE", "PYTEST_", "OPENBLAS_", "OMP_", "GOMP_", "MKL_", "ATEN_", "NPY_", "NEURONS_CACHE_DIR")
"""Variables that a child does not inherit: of a coverage run, of xdist, and of this machine's arithmetic."""


@dataclass(frozen=True)
class Arithmetic:
    """openblas: NumPy's and SciPy's kernel. torch: PyTorch's own vector code, mkl: of the library that multiplies its
    matrices. plain_numpy: whether NumPy's loops do without AVX. flags: what the processor must have."""

    openblas: str
    torch: str
    mkl: str
    threads: int
    plain_numpy: bool = False
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.openblas}-{self.torch}-{self.threads}"

    @property
    def missing(self) -> list[str]:
        return sorted(set(self.flags) - processor_flags())

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        count = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads))
        own = {"OPENBLAS_CORETYPE": self.openblas, "ATEN_CPU_CAPABILITY": self.torch, "MKL_CBWR": self.mkl}
        numpy = {"NPY_DISABLE_CPU_FEATURES": " ".join(vector_features())} if self.plain_numpy else {}
        return kept | count | own | numpy | {"MKL_DYNAMIC": "FALSE", "OMP_WAIT_POLICY": "passive"}


ALIASES = {"Prescott": "Katmai", "Zen": "Haswell"}
"""Kernels that are one and the same in NumPy's and SciPy's wheels, which say the second name."""
AVX2, AVX512 = ("avx2", "fma"), ("avx512f", "avx512dq", "avx512bw", "avx512vl")
ARITHMETICS = (
    Arithmetic("Prescott", "default", "COMPATIBLE", 1, plain_numpy=True),
    Arithmetic("Sandybridge", "default", "AVX", 2, flags=("avx",)),
    Arithmetic("Haswell", "avx2", "AVX2", 4, flags=AVX2),
    Arithmetic("Zen", "avx2", "AUTO", 1, flags=AVX2),
    Arithmetic("SkylakeX", "avx512", "AVX512", 2, flags=AVX512),
)
"""Every kernel, vector unit and thread count at least once, the oldest with the oldest and the newest with the
newest: not their product, which is 45 runs of the same few sums, since each library reads only its own setting."""
IS_X86 = platform.machine().lower() in {"x86_64", "amd64"}


def processor_flags() -> set[str]:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def vector_features() -> list[str]:
    """What NumPy would use here beyond what every processor of this family has."""
    from numpy._core import _multiarray_umath as core

    return [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]


def verify(asked: Arithmetic) -> None:
    """Stop where a library computes in another way than asked."""
    import scipy.linalg  # noqa: F401 - brings an OpenBLAS of its own
    import torch
    from threadpoolctl import threadpool_info

    blas = [one for one in threadpool_info() if one["internal_api"] == "openblas"]
    assert len(blas) == 2, blas
    assert {one["architecture"] for one in blas} <= {asked.openblas, ALIASES.get(asked.openblas)}, blas
    assert {one["num_threads"] for one in blas} == {min(asked.threads, os.cpu_count() or 1)}, blas  # no more than cores
    assert torch.backends.cpu.get_cpu_capability() == asked.torch.upper()
    assert torch.get_num_threads() == asked.threads
    assert not (asked.plain_numpy and vector_features()), vector_features()


def answer(folder: Path) -> None:
    """The JSON of each command, from a cache of its own."""
    from contextlib import redirect_stdout

    from neurons.cli.main import main

    os.environ["NEURONS_CACHE_DIR"] = str(folder / "cache")
    for command in COMMANDS:
        sys.argv = ["neurons", command, "--model", "mini", "--json"]
        with (folder / f"{command}.json").open("w", encoding="utf-8") as file, redirect_stdout(file):
            try:
                main()
            except SystemExit as ended:
                if ended.code:
                    raise


def run_tests(files: list[str]) -> int:
    import pytest

    return int(pytest.main(["-n", "0", "-q", "-m", "not long and not numerics", "-p", "no:cacheprovider", *files]))


if __name__ == "__main__":
    verify(next(one for one in ARITHMETICS if one.name == sys.argv[1]))
    if sys.argv[2] == "tests":
        sys.exit(run_tests(sys.argv[3:]))
    answer(Path(sys.argv[3]))
