"""Shares of neurons on several processes or a cluster.

A block of prompts is an independent task: it receives paths and the number of the block, and leaves its shares among
the kept parts beside the cache file. `shares.attribute` then finds them there and adds them up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from neurons.attribution.end import measured_rows
from neurons.attribution.shares import ATTRIBUTED, STEPS, gauss, kept_shares, parts_of_shares
from neurons.intervention.context import AblationContext, ContextPaths, paths_for_workers
from neurons.intervention.draws import DRAWS, random_years
from neurons.parallel import run_tasks
from neurons.types import Measure, Progress

PLAN = "plan"
"""The kept part that says which rows of the cache are measured."""


@dataclass(frozen=True)
class SharesTask:
    """One block as a worker receives it."""

    context: ContextPaths
    measures: tuple[Measure, ...]
    draws: int
    seed: int
    steps: int
    block: int


def spread_shares(
    ctx: AblationContext,
    *,
    measures: Sequence[Measure] = ATTRIBUTED,
    draws: int = DRAWS,
    seed: int = 0,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Compute and keep the shares of all blocks; jobs and scheduler as in `neurons.parallel`, the rest as `attribute`.

    This process runs the first block, which says how many nodes it takes. Raises `CacheError` if the folder cannot
    be written or a worker cannot see it.
    """
    parts, rows = parts_of_shares(ctx, measures, draws, seed), list(measured_rows(ctx))
    taken, context = random_years(ctx.cache, draws=draws, seed=seed), paths_for_workers(ctx, parts, PLAN)

    def is_enough(steps: int) -> bool:
        ((_, found),) = kept_shares(ctx, measures, taken, gauss(steps, ctx), parts, rows[0])
        return found.adds_up

    steps, done = next(filter(is_enough, STEPS), STEPS[-1]), len(rows[0])
    tasks = [SharesTask(context, tuple(measures), draws, seed, steps, block) for block in range(1, len(rows))]

    def report(finished: int, total: int) -> None:
        if progress:
            progress(done + round((len(ctx) - done) * finished / total), len(ctx))

    run_tasks(shares_of_task, tasks, jobs=jobs, scheduler=scheduler, progress=report)


def shares_of_task(task: SharesTask) -> int:
    """Compute and keep the shares of one block of prompts; returns its number."""
    ctx, rows, taken = _planned(task.context, task.draws, task.seed)
    nodes = gauss(task.steps, ctx)
    for _ in kept_shares(ctx, task.measures, taken, nodes, task.context.parts, rows[task.block]):
        pass
    return task.block


@lru_cache(maxsize=1)
def _planned(
    context: ContextPaths, draws: int, seed: int
) -> tuple[AblationContext, list[Int[np.ndarray, " P"]], Int[np.ndarray, "R all"]]:
    ctx, _ = context.open()
    return ctx, list(measured_rows(ctx)), random_years(ctx.cache, draws=draws, seed=seed)
