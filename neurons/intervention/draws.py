"""Random-year draws: for each prompt, the same noun and century with another start year.

1. The prompts of one noun and century are put in a random order, a new one for each draw.
2. Each takes the one before it, the first the last: never itself, and every prompt is taken once a draw.

The order depends on the seed, the draw, the noun and the century alone, so other prompts of a cache change nothing.

Prompts of one's own need not come so: where a noun has one start year alone in a century, or two prompts of one, each
takes any prompt of another start year, as near in words as there is one (`_nearest`), independently in each draw.
"""

from functools import partial

import numpy as np
from jaxtyping import Int

from neurons.cache.format import Cache
from neurons.task.prompt_set import PAD
from neurons.task.years import N_YEARS
from neurons.types import InputError, check_whole

MOST_DRAWS = 64
DRAWS = 4
"""Other prompts drawn for each prompt."""
ONE_DRAW = 1
"""For what is run many times: single neurons and components, sets of growing size. In `mini` (2,289 prompts) effects of
one draw correlate with those of twelve others by 0.9987 (contrast) and 0.9971 (probability difference), of four by
0.9998 and 0.9993; what one draw adds to the error is below the interval over centuries."""


def noun_centuries(cache: Cache) -> list[Int[np.ndarray, " g"]]:
    """Rows of the cache by noun and century, in the order of their first prompts."""
    found: dict[tuple[str, int], list[int]] = {}
    for row, pair in enumerate(zip(cache.noun, cache.century.tolist(), strict=True)):
        found.setdefault(pair, []).append(row)
    return [np.array(rows) for rows in found.values()]


def random_years(cache: Cache, *, draws: int = DRAWS, seed: int = 0) -> Int[np.ndarray, "R P"]:
    """The row of another prompt for every prompt of the cache, `draws` times.

    Raises `InputError` for fewer than one draw, or where all prompts have one start year.
    """
    check_whole("draws", draws, least=1, most=MOST_DRAWS)
    taken = np.empty((draws, len(cache)), int)
    groups = noun_centuries(cache)
    for rows in filter(partial(is_crossed, cache), groups):
        noun, century = cache.noun[rows[0]], int(cache.century[rows[0]])
        rng = np.random.default_rng([seed, century, *noun.encode()])
        for draw in range(draws):
            order = rng.permutation(rows)
            taken[draw, order] = np.roll(order, 1)
    if alone := [rows for rows in groups if not is_crossed(cache, rows)]:
        rows = np.concatenate(alone)
        taken[:, rows] = _nearest(cache, rows, draws, np.random.default_rng(seed))
    return taken


def is_crossed(cache: Cache, rows: Int[np.ndarray, " g"]) -> bool:
    """Whether each of several prompts has a start year of its own."""
    return 1 < len(rows) == len(np.unique(cache.start_year[rows]))


def _nearest(cache: Cache, rows: Int[np.ndarray, " n"], draws: int, rng: np.random.Generator) -> Int[np.ndarray, "R n"]:
    """Prompts of other start years: of the same noun and century; where there is none, of the same length and century;
    of the same length; of the cache. Raises `InputError` where all have one start year.
    """
    if len(np.unique(cache.start_year)) < 2:
        year = int(cache.start_year[0])
        raise InputError(f"all prompts have start year {year:02d}, so there is no other to draw: give more")
    taken = np.full((draws, len(rows)), -1)
    length = (cache.read("prompts/tokens") != PAD).sum(1)
    words = np.unique(cache.noun, return_inverse=True)[1].reshape(-1)
    for keys in ([words, cache.century], [length, cache.century], [length], []):
        group = np.unique(np.column_stack([*keys, 0 * length]), axis=0, return_inverse=True)[1].reshape(-1)
        key = group * N_YEARS + cache.start_year
        order = np.argsort(key, kind="stable")
        first, stop = (np.searchsorted(key[order], edge) for edge in (group * N_YEARS, (group + 1) * N_YEARS))
        own, after = (np.searchsorted(key[order], key, side=side) for side in ("left", "right"))
        others = (stop - first) - (after - own)  # in `order`, those of its own start year lie together
        at = np.flatnonzero((taken[0] < 0) & (others[rows] > 0))
        row = rows[at]
        place = first[row] + rng.integers(others[row], size=(draws, len(row)))
        taken[:, at] = order[place + np.where(place < own[row], 0, (after - own)[row])]
    return taken
