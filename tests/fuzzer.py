"""A process that is given files one by one and says what became of each; it may crash or hang, its parent sees.

`Watched` is the parent's side. A line `KIND PATH` goes in, a line of JSON comes out: `refused` with the reason,
or `numbers` with a digest of everything that was read.
"""

import hashlib
import json
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import numpy as np

from neurons.types import NeuronsError

SECONDS = 60


class Watched:
    """A child that takes many files. It must answer for each within `SECONDS`."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._child.kill()
        self._child.communicate()

    def ask(self, kind: str, path: Path) -> dict[str, str]:
        """What became of the file; a crash or a hang is an answer too, and a new child takes over."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{kind} {path}\n".encode())
        self._child.stdin.flush()
        ready, _, _ = select.select([self._child.stdout], [], [], SECONDS)
        line = self._child.stdout.readline() if ready else b""
        if line:
            return json.loads(line)
        self._child.kill()
        self._child.communicate()
        said = {"became": "hung" if not ready else f"crashed ({self._child.returncode})", "says": ""}
        self._start()
        return said


def numbers_of_cache(path: Path) -> str:
    """Everything that a reader takes from a cache."""
    from neurons.cache.format import open_cache

    cache = open_cache(path)
    h = hashlib.sha256(repr((cache.key, cache.model, cache.layers, cache.d_gain, cache.noun, cache.missing)).encode())
    arrays = [cache.start_year, cache.century, cache.counterfactual, cache.scale, cache.year_logits, cache.logsumexp]
    arrays += [cache.gram, cache.read("prompts/tokens"), cache.read("years/token_ids")]
    arrays += [cache.read("counterfactual/year_logits"), cache.read("counterfactual/logsumexp")]
    for layer in cache.layers:
        arrays += [cache.post(layer), cache.readout(layer), cache.readout(layer, plain=True)]
        arrays += [cache.read(f"readout/{layer}_bias"), cache.read(f"readout/{layer}_norm")]
    for array in arrays:
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def verified(path: Path) -> str:
    """The same after `verify`."""
    from neurons.cache.format import verify_cache

    verify_cache(path)
    return numbers_of_cache(path)


def numbers_of_checkpoint(folder: Path) -> str:
    """The prompts of a checkpoint's tokenizer and what its weights answer to one of them."""
    from neurons.model.checkpoint import load_model
    from neurons.model.forward import run
    from neurons.task.prompts import year_spans

    model = load_model(folder)
    prompts = year_spans(model.tokenizer, nouns=["war"], centuries=[17])
    ids = prompts.year_token_ids
    found = run(model, prompts.tokens[:3], shared=prompts.year_position, layers=(0,), year_token_ids=ids)
    return hashlib.sha256(np.round(found.year_logits.numpy(), 3).tobytes()).hexdigest()


KINDS = {"open": numbers_of_cache, "verify": verified, "checkpoint": numbers_of_checkpoint}


def _main() -> None:
    for line in sys.stdin:
        kind, _, path = line.rstrip("\n").partition(" ")
        try:
            said = {"became": "numbers", "says": KINDS[kind](Path(path))}
        except NeuronsError as error:
            said = {"became": "refused", "says": str(error)}
        except BaseException as error:
            said = {"became": f"failed with {type(error).__name__}", "says": repr(error)[:500]}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
