"""What other cache files of the same model already hold: asking for more computes only what is missing.

A file counts only if its key, made anew from this checkpoint, its own prompts, layers and type, is the one
it carries: then weights, config, hook, type and format are the same. From it comes every prompt whose
tokens are the same, in every layer that both hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from neurons.cache.assemble import block_places
from neurons.cache.format import Cache, key_of, open_cache
from neurons.cache.layout import DTYPE, SUFFIX
from neurons.cache.plan import Block, Plan
from neurons.model.files import Checkpoint
from neurons.types import CacheError


@dataclass(frozen=True, eq=False)
class Donor:
    """A complete cache file of the same model and config."""

    cache: Cache

    @cached_property
    def tokens(self) -> np.ndarray:
        return self.cache.read("prompts/tokens")

    @cached_property
    def query_of(self) -> dict[bytes, int]:
        return {row.tobytes(): query for query, row in enumerate(self.cache.read("counterfactual/tokens"))}

    def fill(self, plan: Plan, block: Block, arrays: dict[str, np.ndarray]) -> bool:
        """Write what the donor knows of a block over what is missing (NaN); whether there was anything."""
        query = self.query_of.get(plan.counterfactual_tokens[block.query].tobytes())
        if query is None:
            return False
        held = {self.tokens[row].tobytes(): row for row in np.flatnonzero(self.cache.counterfactual == query).tolist()}
        pairs = [(i, held.get(row.tobytes())) for i, row in enumerate(plan.tokens[block.rows])]
        mine = np.array([i for i, theirs in pairs if theirs is not None], int)
        theirs = np.array([row for _, row in pairs if row is not None], int)
        for name, dataset, of_query in block_places(block, [x for x in plan.layers if x in self.cache.layers]):
            if of_query:
                _put(arrays[name], np.array([0]), self.cache.read(dataset, slice(query, query + 1)))
            elif len(mine):
                whole = self.cache.read(dataset, slice(theirs.min(), theirs.max() + 1))
                _put(arrays[name], mine + int(block.leads), whole[theirs - theirs.min()])
        return True


def donors(path: Path, checkpoint: Checkpoint, plan: Plan) -> Iterator[Donor]:
    """The cache files beside `path` that may give numbers to its build."""
    stem = path.stem.rpartition("-")[0]
    for found in sorted(path.parent.glob(f"{stem}-*{SUFFIX}")):
        try:
            cache = open_cache(found) if found != path else None
        except CacheError:
            continue
        if cache is None or cache.model_sha256 != checkpoint.fingerprint:
            continue
        if cache.key != key_of(checkpoint, cache.prompts_sha256, cache.layers, cache.dtype):
            continue
        if cache.dtype not in {DTYPE, plan.dtype}:  # what was rounded does not come back
            continue
        if np.array_equal(cache.read("years/token_ids"), plan.year_token_ids):
            yield Donor(cache)


def reused(plan: Plan, block: Block, N: int, d: int, given: list[Donor]) -> dict[str, np.ndarray] | None:
    """A block's arrays as far as others hold them, NaN where none does; None where none holds anything."""
    if not given:
        return None
    n = len(block)
    shapes: dict[str, tuple[int, ...]] = {f"post_{layer}": (n, N) for layer in plan.layers}
    shapes |= {"scale": (n,), "residual": (n, d), "year_logits": (n, len(plan.year_token_ids)), "logsumexp": (n,)}
    arrays = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
    if block.leads:  # a cache keeps neither for the 01-run
        arrays["scale"][0], arrays["residual"][0] = 0, 0
    found = [donor.fill(plan, block, arrays) for donor in given]
    return arrays if any(found) else None


def _put(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    absent = np.isnan(array[rows]).reshape(len(rows), -1).any(1)
    array[rows[absent]] = values[absent]
