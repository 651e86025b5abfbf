"""The exchange test: neurons held at the tuning curves of others, by how far apart their centres lie.

1. All neurons of the layers are held at their mean curves of other centuries. Each of the set takes the shape of a
   partner's curve, turned so that its centre is up, at its own mean, size and side.
2. Partners are drawn from those of the set whose centre lies so many years away (nobody there: its own curve), and, to
   compare with, from all others of the set. Measures are averaged over `DRAWS` draws. Distances
   without any are left out.
3. Recovered is as for every description (`faithfulness`). Where neurons of one place can stand in for one another and
   those of different places cannot, it falls with distance.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.attribution.results import Attributed
from neurons.intervention.context import AblationContext
from neurons.ranking.sets import RECOVERED
from neurons.regression.described import Curve, Description, own_curves, standardised
from neurons.regression.faithfulness import measured_cells, recovered_part, written_by
from neurons.regression.tiling import turned_curves
from neurons.regression.tiling_results import Exchange, Exchanged
from neurons.types import Progress

DISTANCES = ((0, 2), (2, 5), (5, 10), (10, 20), (20, 40), (40, 100))
"""Years between the centres of two partners: at least the first, less than the second."""
DRAWS = 4


def exchange(
    ctx: AblationContext,
    attributed: Attributed,
    rows: Int[np.ndarray, " m"],
    centre: Float[np.ndarray, " m"],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Exchange:
    """Exchange the curves of the neurons in these rows of the layers, with these tuning centres."""
    distance = np.abs(centre[:, None] - centre)
    others = ~np.eye(len(rows), dtype=bool)
    allowed = {(0, 0): ~others, (0, 100): others}
    near = {(low, high): others & (distance >= low) & (distance < high) for low, high in DISTANCES}
    allowed |= {years: one for years, one in near.items() if one.any()}
    rng = np.random.default_rng(seed)
    partners = {years: [_partners(one, rng) for _ in range(DRAWS if one is not allowed[0, 0] else 1)]
                for years, one in allowed.items()}  # fmt: skip
    own = own_curves(ctx.activations, ctx.start_years)
    every = [Description("", rows, _exchanged(one)) for drawn in partners.values() for one in drawn]
    cells = measured_cells(ctx, [written_by(ctx, one.curves(own)) for one in every], progress=progress)
    found, start = [], 0
    for years, drawn in partners.items():
        part = slice(start, start := start + len(drawn))
        parts = {m: recovered_part(attributed.share(m), cells[m][part].mean(0)) for m in RECOVERED}
        found.append(Exchanged(years=years, neurons=int(allowed[years].any(1).sum()), **parts))
    return Exchange(found[0], found[1], tuple(found[2:]))


def _partners(allowed: Bool[np.ndarray, "m m"], rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    """One partner of those allowed for each neuron; itself where there is none."""
    drawn = np.where(allowed, rng.random(allowed.shape), -1.0).argmax(1)
    return np.where(allowed.any(1), drawn, np.arange(len(allowed)))


def _exchanged(partner: Int[np.ndarray, " m"]) -> Callable[[Curve], Curve]:
    def make(curve: Curve) -> Curve:
        _, mean, size = standardised(curve)
        up = standardised(turned_curves(curve))[0]
        side = np.sign((up * (curve - mean)).sum(0))
        return mean + side * size * up[:, partner]

    return make
