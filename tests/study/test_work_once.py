"""A report of everything loads the model once and reads each activation twice at most; a second one needs no model."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurons.cache.format import Cache
from neurons.model import checkpoint
from neurons.study.study import Study

ASKED: dict[str, Any] = {"nouns": ["war"], "centuries": (16, 17), "years": range(5, 99, 12), "layers": (10, 11)}


class Reads:
    """How often each activation of a cache was read, prompt by neuron, by layer."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.by_layer: dict[str, np.ndarray] = {}
        read = Cache.read

        def counted(cache: Cache, dataset: str, part: Any = ()) -> np.ndarray:
            if dataset.startswith("mlp/"):
                count = self.by_layer.setdefault(dataset, np.zeros((len(cache), cache.d_mlp), int))
                count[part] += 1
            return read(cache, dataset, part)

        patch.setattr(Cache, "read", counted)

    def most(self) -> int:
        return max(int(count.max()) for count in self.by_layer.values())


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reads, Counter[str]]:
    """A folder with cache and report, what was read for them, and how often the model was loaded."""
    folder, loads, load = tmp_path_factory.mktemp("once"), Counter[str](), checkpoint.load_model

    def counted(*arguments: Any, **settings: Any) -> Any:
        loads["model"] += 1
        return load(*arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "load_model", counted)
        reads = Reads(patch)
        Study(**ASKED, cache_dir=folder / "cache").report(folder / "reports", causal=True, circuit=True)
    return folder, reads, loads


def test_the_model_is_loaded_once(worked: tuple[Path, Reads, Counter[str]]) -> None:
    assert worked[2] == {"model": 1}


def test_every_activation_is_read_once_and_those_of_a_page_twice(worked: tuple[Path, Reads, Counter[str]]) -> None:
    """Once for all analyses together; once more where the strongest prompts of a neuron's page are looked for."""
    counts = worked[1].by_layer
    assert set(counts) == {"mlp/10/post", "mlp/11/post"}
    twice = sum(int((count == 2).all(0).sum()) for count in counts.values())
    assert all((count >= 1).all() for count in counts.values())
    assert worked[1].most() == 2
    assert twice == 24


def test_a_report_of_kept_results_reads_once_and_loads_no_torch(
    worked: tuple[Path, Reads, Counter[str]], tmp_path: Path
) -> None:
    program = f"""
import sys
from neurons.cache.format import Cache
from neurons.study.study import Study
reads, read = [], Cache.read
Cache.read = lambda cache, name, part=(): (name.startswith("mlp/") and reads.append(name), read(cache, name, part))[1]
study = Study(nouns=["war"], centuries=(16, 17), years=range(5, 99, 12), layers=(10, 11),
              cache_dir={str(worked[0] / "cache")!r})
study.report({str(tmp_path)!r}, causal=True, circuit=True)
assert sorted(reads) == ["mlp/10/post", "mlp/11/post"], reads
sys.exit(", ".join({{"torch", "transformers", "sklearn"}} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "mini" / "circuit.html").is_file()
