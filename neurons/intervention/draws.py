"""Random-year draws: for each prompt, the same noun and century with another start year.

1. The prompts of one noun and century are put in a random order, a new one for each draw.
2. Each takes the one before it, the first the last: never itself, and every prompt is taken once a draw.

The order depends on the seed, the draw, the noun and the century alone, so other prompts of a cache change nothing.
"""

import numpy as np
from jaxtyping import Int

from neurons.cache.format import Cache
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

    Raises `InputError` for fewer than one draw, or where a noun has one start year alone in a century.
    """
    check_whole("draws", draws, least=1, most=MOST_DRAWS)
    taken = np.empty((draws, len(cache)), int)
    for rows in noun_centuries(cache):
        noun, century = cache.noun[rows[0]], int(cache.century[rows[0]])
        if len(rows) < 2:
            raise InputError(
                f"noun {noun!r} has one start year in century {century}, so there is no other to draw: choose prompts"
                " with at least 2 start years for each noun and century"
            )
        rng = np.random.default_rng([seed, century, *noun.encode()])
        for draw in range(draws):
            order = rng.permutation(rows)
            taken[draw, order] = np.roll(order, 1)
    return taken
