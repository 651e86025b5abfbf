"""Plan of a build: its blocks, and what other cache files of the same model already hold of them.

1. A block is the prompts of one noun and century, with their 01-counterfactual in front. Its numbers follow from its
   own prompts alone, so they are the same whoever computes it and whatever else is asked for. Counterfactuals of few
   prompts, as those of one's own, share a block.
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
FEW = 16
"""A 01-counterfactual of fewer prompts shares its block with others."""
PLAN = "plan"
ANSWER = ("year_logits", "logsumexp")
"""What is kept of the 01-counterfactuals too; other arrays of a block are 0 in their row."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of the prompt set that are run together. queries: the counterfactuals that are run here, as first rows."""

    index: int
    queries: Int[np.ndarray, " q"]
    rows: Int[np.ndarray, " n"]

    @property
    def name(self) -> str:
        return f"block-{self.index:06d}"

    def __len__(self) -> int:
        return len(self.queries) + len(self.rows)


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
        of_query = np.split(order, cuts)
        found: list[Block] = []
        for queries in _together(list(map(len, of_query))):
            rows = np.sort(np.concatenate([of_query[query] for query in queries]))
            for start in range(0, max(1, len(rows)), BLOCK_PROMPTS):
                first = np.array(queries if start == 0 else [], int)
                found.append(Block(len(found), first, rows[start : start + BLOCK_PROMPTS]))
        return tuple(found)

    def block_tokens(self, block: Block) -> Int[np.ndarray, "n T"]:
        return np.concatenate([self.counterfactual_tokens[block.queries], self.tokens[block.rows]])


def _together(sizes: list[int]) -> Iterator[list[int]]:
    """Yield counterfactuals that share a block, from the number of prompts of each."""
    few: list[int] = []
    held = 0
    for query, size in enumerate(sizes):
        if size >= FEW:
            yield [query]
            continue
        if held + size + 1 > BLOCK_PROMPTS:
            yield few
            few, held = [], 0
        few, held = [*few, query], held + size + 1
    if few:
        yield few


def block_places(block: Block, layers: Iterable[int]) -> Iterator[tuple[str, str, bool]]:
    """Yield where a block's arrays lie in the file: array, dataset, whether of the counterfactual alone."""
    for layer in layers:
        yield f"post_{layer}", f"mlp/{layer}/post", False
    for name in ("scale", *ANSWER):
        yield name, f"final/{name}", False
    if len(block.queries):
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
    arrays = parts.plan(PLAN)
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
        wanted = np.unique(np.concatenate([block.queries, plan.counterfactual[block.rows]]))
        theirs = {q: self.query_of.get(plan.counterfactual_tokens[q].tobytes()) for q in wanted.tolist()}
        known = [query for query in theirs.values() if query is not None]
        if not known:
            return False
        held = {
            (int(self.cache.counterfactual[row]), self.tokens[row].tobytes()): row
            for row in np.flatnonzero(np.isin(self.cache.counterfactual, known)).tolist()
        }
        own = [(theirs[int(plan.counterfactual[row])], plan.tokens[row].tobytes()) for row in block.rows]
        rows = [held.get(key, -1) for key in own]  # type: ignore[arg-type]
        queries = [-1 if theirs[q] is None else theirs[q] for q in block.queries.tolist()]
        for name, dataset, of_query in block_places(block, [x for x in plan.layers if x in self.cache.layers]):
            if of_query:
                self._put(arrays[name], 0, dataset, np.array(queries))
            else:
                self._put(arrays[name], len(block.queries), dataset, np.array(rows, int))
        return True

    def _put(self, array: np.ndarray, first: int, dataset: str, rows: Int[np.ndarray, " n"]) -> None:
        """Write rows of a dataset where the array, from `first` on, has none; -1: the donor has none either."""
        at = np.flatnonzero(rows >= 0)
        if not len(at):
            return
        low = int(rows[at].min())
        values = self.cache.read(dataset, slice(low, int(rows[at].max()) + 1))[rows[at] - low]
        absent = np.isnan(array[first + at]).reshape(len(at), -1).any(1)
        array[first + at[absent]] = values[absent]


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
    clear_counterfactuals(len(block.queries), arrays)
    found = [donor.fill(plan, block, arrays) for donor in given]
    return arrays if any(found) else None


def clear_counterfactuals(count: int, arrays: dict[str, np.ndarray]) -> None:
    """Set to 0 what no cache file keeps of the 01-counterfactuals, the first rows."""
    for name in arrays.keys() - set(ANSWER):
        arrays[name][:count] = 0
