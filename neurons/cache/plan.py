"""How a build is cut into blocks: the prompts of one noun and century, with their 01-counterfactual in front.

A block's numbers follow from its own prompts alone. So they are the same whoever computes it, whatever else
is asked for beside it, and a larger request finds the blocks of a smaller one as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from neurons.cache.layout import DTYPE, Dtype, check_dtype
from neurons.cache.parts import Parts
from neurons.task.prompts import PromptSet
from neurons.types import CacheError

BLOCK_PROMPTS = 128
"""Prompts of one block at most; a noun and century have at most 100."""
PLAN = "plan"


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
    """What is run: tokens, and how the answer is read. A worker reads it from the folder of parts."""

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
    """Raises `CacheError` where the folder of parts cannot be seen from here."""
    arrays = parts.get(PLAN)
    if arrays is None:
        raise CacheError(
            f"a worker cannot see {parts.folder}: the cache folder must be shared by all machines, under one path"
        )
    year_position, layers = int(arrays.pop("year_position")), tuple(arrays.pop("layers").tolist())
    dtype = check_dtype(str(arrays.pop("dtype")))
    return Plan(**arrays, year_position=year_position, layers=layers, dtype=dtype)
