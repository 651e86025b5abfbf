"""Build of a cache file: blocks of prompts through the model, each kept when finished, then the one file.

1. An existing file is opened. Else one process takes its lock (`folder`); others wait and find it there.
2. What other cache files of the same model hold is taken over (`plan`).
3. Each block that is still missing is an independent task (`compute`): it ends as a finished part (`parts`).
4. The parts are put together and renamed (`assemble`), and cleared away.

Killed at any moment, the next call goes on from the finished parts and ends with the same content.
"""

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurons.cache.assemble import assemble
from neurons.cache.compute import PARTIAL, Task, complete, compute_part, known, readouts, visible_norm
from neurons.cache.folder import building, default_folder, is_there
from neurons.cache.format import Cache, cache_key, cache_path, open_cache
from neurons.cache.layout import DTYPE, FORMAT, FORMAT_VERSION, Sizes, check_dtype, rounded
from neurons.cache.parts import Parts, parts_of
from neurons.cache.plan import PLAN, Block, Plan, donors, plan_of, reused, save_plan
from neurons.model.model import Model
from neurons.parallel import is_spread, run_tasks
from neurons.task.prompt_set import PromptSet
from neurons.types import CacheError, Progress, check_is, check_progress

__all__ = ["cache_activations", "visible_norm"]


def cache_activations(
    model: Model,
    prompts: PromptSet,
    *,
    layers: Iterable[int] | None = None,
    dtype: str = DTYPE,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Cache:
    """Open the cache of these prompts and layers, or build it where it does not exist.

    layers: default the last third of the model's. dtype: float16 halves the file; what is computed from it is computed
    in float32, from activations with a relative error of up to 2^-11. cache_dir: default the folder that
    NEURONS_CACHE_DIR names, else `cache`. jobs, scheduler: where blocks are computed, see `neurons.parallel`; other
    processes read the checkpoint from its folder. waiting: called with a message when another process builds the file.

    Raises `InputError` for a layer outside the model or an unknown type, `CacheError` when the folder cannot be
    written, an existing file cannot be read, or an activation is beyond what the type holds.
    """
    folder = default_folder() if cache_dir is None else cache_dir
    _check_asked(model, prompts, folder)
    check_progress(progress)
    check_is("waiting", waiting, Callable | None, "a function of a text")
    chosen = model.config.check_layers(model.config.default_layers if layers is None else layers)
    stored = check_dtype(dtype)
    key = cache_key(model.checkpoint, prompts, chosen, stored)
    path = cache_path(Path(folder), model.checkpoint, key)
    is_spread(jobs, scheduler)
    if not is_there(path):
        with building(path, waiting):
            if not is_there(path):
                build = Build(
                    model, prompts, plan_of(prompts, chosen, stored), path, key, parts_of(path, key), progress
                )
                build.run(jobs=jobs, scheduler=scheduler)
    return open_cache(path)


def _check_asked(model: Model, prompts: PromptSet, folder: str | os.PathLike[str]) -> None:
    check_is("model", model, Model, "what load_model returns")
    check_is("prompts", prompts, PromptSet, "what year_spans returns")
    check_is("cache_dir", folder, str | os.PathLike, "a folder")


@dataclass(frozen=True, eq=False)
class Build:
    """One build under its lock. `progress` counts prompts and counterfactuals."""

    model: Model
    prompts: PromptSet
    plan: Plan
    path: Path
    key: str
    parts: Parts
    progress: Progress | None

    def run(self, *, jobs: int | None = None, scheduler: str | None = None) -> None:
        self.parts.tidy()
        missing = self._take_over(self._missing())
        self._report(missing)
        if missing and is_spread(jobs, scheduler):
            self._spread(missing, jobs, scheduler)
        else:
            self._here(missing)
        self._assemble()
        self.parts.remove()

    def _missing(self) -> list[Block]:
        there = self.parts.names()
        return [block for block in self.plan.blocks if block.name not in there]

    def _take_over(self, missing: list[Block]) -> list[Block]:
        """Turn blocks that other caches hold into parts; returns those that still need the model."""
        given = list(donors(self.path, self.model.checkpoint, self.plan)) if missing else []
        left = []
        for block in missing:
            arrays = reused(self.plan, block, self.model.config.d_mlp, given)
            if arrays is None:
                left.append(block)
            elif any(np.isnan(array).any() for array in arrays.values()):
                self.parts.put(f"{PARTIAL}-{block.name}", arrays)
                left.append(block)
            else:
                self.parts.put(block.name, rounded(arrays, self.plan.dtype))
        return left

    def _here(self, missing: list[Block]) -> None:
        for done, block in enumerate(missing, 1):
            self.parts.put(block.name, complete(self.model, self.plan, block, known(self.parts, block)))
            self._report(missing[done:])

    def _spread(self, missing: list[Block], jobs: int | None, scheduler: str | None) -> None:
        folder, digest = str(self.parts.folder.resolve()), self.parts.digest
        checkpoint = self.model.checkpoint.for_workers
        tasks = [Task(checkpoint, self.model.fingerprint, folder, digest, block.index) for block in missing]
        save_plan(self.plan, self.parts)
        try:
            run_tasks(
                compute_part,
                tasks,
                jobs=jobs,
                scheduler=scheduler,
                progress=lambda done, total: self._report(missing[done:]),
            )
        finally:
            self.parts.discard(PLAN)

    def _report(self, missing: list[Block]) -> None:
        if self.progress:
            total = sum(map(len, self.plan.blocks))
            self.progress(total - sum(map(len, missing)), total)

    def _assemble(self) -> None:
        P, T = self.plan.tokens.shape
        assemble(
            self.path,
            self.prompts,
            Sizes(P, T, len(self.plan.counterfactual_tokens), self.model.config.d_mlp, self.plan.layers),
            attributes=self._attributes(),
            readouts=readouts(self.model, self.plan),
            blocks=self._filled_blocks(),
        )

    def _filled_blocks(self) -> Iterator[tuple[Block, Mapping[str, np.ndarray]]]:
        """Yield every block with its arrays; one whose part was damaged on disk is computed again."""
        for block in self.plan.blocks:
            arrays = self.parts.get(block.name)
            if arrays is None:
                if not self.parts.folder.is_dir():
                    raise CacheError(f"{self.parts.folder} was removed while it was written: run again")
                arrays = complete(self.model, self.plan, block, known(self.parts, block))
                self.parts.put(block.name, arrays)
            yield block, arrays

    def _attributes(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "key": self.key,
            "model": self.model.name,
            "model_sha256": self.model.fingerprint,
            "layers": np.array(self.plan.layers, dtype=np.int32),
            "dtype": self.plan.dtype,
            "prompts_sha256": self.prompts.digest,
            "bos": self.prompts.bos,
            "template": self.prompts.template.text,
            "year_position": self.prompts.year_position,
            "d_gain": int((self.model.ln_final.gain != 0).sum()),
            "versions": json.dumps(_versions()),
            "complete": True,
        }


def _versions() -> dict[str, str]:
    packages = ("neurons", "numpy", "torch", "transformers", "transformer_lens", "h5py")
    return {name: importlib.metadata.version(name) for name in packages}
