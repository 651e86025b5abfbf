"""Plan of a build: its blocks, and what other cache files of the same model already hold of them.

1. A block is the prompts of one noun and century, with their 01-counterfactual in front. Its numbers follow from its
   own prompts alone, so they are the same whoever computes it and whatever else is asked for.
2. Another file counts only if its key, made anew from this checkpoint, its own prompts, layers and type, is the one
   it carries: then weights, config, hook and type are the same.
3. From it comes every prompt whose tokens are the same, in every layer that both hold.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from neurons.cache.format import Cache, key_of, open_cache
from neurons.cache.layout import DTYPE, SUFFIX, Dtype, check_dtype
from neurons.cache.parts import Parts
from neurons.model.files import Checkpoint
from neurons.task.prompt_set import PromptSet
from neurons.types import CacheError

BLOCK_PROMPTS = 128
"""Prompts of one block at most; a noun and century have at most 100."""
PLAN = "plan"
ANSWER = ("year_logits", "logsumexp")
"""What is kept of the 01-counterfactuals too; other arrays of a block are 0 in their row."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of the prompt set that are run together. `leads`: the counterfactual `query` is run here, as first row."""

    index: int
    query: int
    rows: Int[np.ndarray, " n"]
    leads: bool

    @property
    def name(self) -> str:
        return f"block-{self.index:06d}"

    def __len__(self) -> int:
        return len(self.rows) + self.leads


@dataclass(frozen=True, eq=False)
class Plan:
    """Tokens to run, and how the answer is read. A worker reads it from the folder of parts."""

    tokens: Int[np.ndarray, "P T"]
    counterfactual: Int[np.ndarray, " P"]
    counterfactual_tokens: Int[np.ndarray, "Q T"]
    year_token_ids: Int[np.ndarray, "100"]
    year_position: int
    layers: tuple[int, ...]
    dtype: Dtype = DTYPE

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        order = np.argsort(self.counterfactual, kind="stable")
        cuts = np.searchsorted(self.counterfactual[order], np.arange(1, len(self.counterfactual_tokens)))
        found: list[Block] = []
        for query, rows in enumerate(np.split(order, cuts)):
            for start in range(0, max(1, len(rows)), BLOCK_PROMPTS):
                found.append(Block(len(found), query, rows[start : start + BLOCK_PROMPTS], leads=start == 0))
        return tuple(found)

    def block_tokens(self, block: Block) -> Int[np.ndarray, "n T"]:
        first = self.counterfactual_tokens[block.query : block.query + 1][: int(block.leads)]
        return np.concatenate([first, self.tokens[block.rows]])


def block_places(block: Block, layers: Iterable[int]) -> Iterator[tuple[str, str, bool]]:
    """Yield where a block's arrays lie in the file: array, dataset, whether of the counterfactual alone."""
    for layer in layers:
        yield f"post_{layer}", f"mlp/{layer}/post", False
    for name in ("scale", *ANSWER):
        yield name, f"final/{name}", False
    if block.leads:
        for name in ANSWER:
            yield name, f"counterfactual/{name}", True


def plan_of(prompts: PromptSet, layers: Sequence[int], dtype: Dtype) -> Plan:
    return Plan(
        prompts.tokens,
        prompts.counterfactual,
        prompts.counterfactual_tokens,
        prompts.year_token_ids,
        prompts.year_position,
        tuple(layers),
        dtype,
    )


def save_plan(plan: Plan, parts: Parts) -> None:
    parts.put(PLAN, {name: np.asarray(value) for name, value in vars(plan).items() if name != "blocks"})


def load_plan(parts: Parts) -> Plan:
    """Read the plan; raises `CacheError` where the folder of parts cannot be seen from here."""
    arrays = parts.get(PLAN)
    if arrays is None:
        raise CacheError(
            f"a worker cannot see {parts.folder}: the cache folder must be shared by all machines, under one path"
        )
    year_position, layers = int(arrays.pop("year_position")), tuple(arrays.pop("layers").tolist())
    dtype = check_dtype(str(arrays.pop("dtype")))
    return Plan(**arrays, year_position=year_position, layers=layers, dtype=dtype)


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
        """Write what the donor knows of a block over what is missing (NaN); returns whether there was anything."""
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
    """Yield the cache files beside `path` that may give numbers to its build."""
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


def reused(plan: Plan, block: Block, N: int, given: list[Donor]) -> dict[str, np.ndarray] | None:
    """Return a block's arrays as far as others hold them, NaN where none does; None where none holds anything."""
    n = len(block)
    shapes: dict[str, tuple[int, ...]] = {f"post_{layer}": (n, N) for layer in plan.layers}
    shapes |= {"scale": (n,), "year_logits": (n, len(plan.year_token_ids)), "logsumexp": (n,)}
    arrays = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
    clear_counterfactual(block, arrays)
    found = [donor.fill(plan, block, arrays) for donor in given]
    return arrays if any(found) else None


def clear_counterfactual(block: Block, arrays: dict[str, np.ndarray]) -> None:
    """Set to 0 what no cache file keeps of the 01-counterfactual."""
    for name in arrays.keys() - set(ANSWER) if block.leads else ():
        arrays[name][0] = 0


def _put(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    absent = np.isnan(array[rows]).reshape(len(rows), -1).any(1)
    array[rows[absent]] = values[absent]
