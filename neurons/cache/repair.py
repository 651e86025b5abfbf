"""Recompute the bad blocks of a damaged cache file, and no others."""

from pathlib import Path

import numpy as np

from neurons.cache.build import Build
from neurons.cache.format import Cache, key_of, open_cache
from neurons.cache.layout import check_dtype
from neurons.cache.locks import building
from neurons.cache.parts import parts_of
from neurons.cache.plan import plan_of
from neurons.cache.salvage import PROMPTS, salvage
from neurons.model.checkpoint import Model
from neurons.task.prompts import Missing, PromptSet
from neurons.task.templates import Template
from neurons.types import CacheError, Progress


def repair_cache(path: Path, model: Model, *, progress: Progress | None = None) -> Cache:
    """Write a damaged cache file anew from its own good blocks; the model runs for the bad ones.

    The damaged file stays until the new one takes its place.

    Raises `CacheError` where the prompts themselves are damaged, or another model made the file.
    """
    with building(path):
        key = salvage(path)
        parts = parts_of(path, key or "")
        found = parts.get(PROMPTS)
        if key is None or found is None:
            raise CacheError(
                f"cache {path} cannot be repaired: what was asked cannot be read from it any more; delete it and run"
                " again"
            )
        prompts, layers, dtype = _prompts(found), tuple(found["layers"].tolist()), check_dtype(str(found["dtype"]))
        if key_of(model.checkpoint, prompts.digest, layers, dtype) != key:
            raise CacheError(f"cache {path} was made with another model than {model.name}: give that one")
        Build(model, prompts, plan_of(prompts, layers, dtype), path, key, parts, progress).run()
    return open_cache(path)


def _prompts(found: dict[str, np.ndarray]) -> PromptSet:
    return PromptSet(
        template=Template(str(found["template"])),
        bos=int(found["bos"]),
        tokens=found["tokens"],
        start_year=found["start_year"],
        century=found["century"],
        noun=tuple(word.decode("utf-8") for word in found["noun"].tolist()),
        counterfactual=found["counterfactual"],
        counterfactual_tokens=found["counterfactual_tokens"],
        year_token_ids=found["year_token_ids"],
        year_position=int(found["year_position"]),
        missing=tuple(Missing(int(century), int(year)) for century, year in np.asarray(found["missing"])),
    )
