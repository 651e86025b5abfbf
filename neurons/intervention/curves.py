"""Top-k curves: keep only the top k neurons and ablate the rest, or ablate only the top k.

1. Neurons of all cached layers in an order (share, direct effect, exact effect, activation variance, random).
2. k = 0, 1, 2, 4, ... all; the sets at each k are ablated together (`group_measures`), each set once.
3. A curve is summarised by the k that keeps 90 % of the behaviour, (m(k) - m(0)) / (m(all) - m(0)) >= 0.9
   from k on, and by the area under that ratio over log2(1 + k), scaled to 0..1.

`published_curve` is the variant of the literature: one layer, neurons zeroed at all positions, softmax over
the 100 years alone (Dunefsky et al. 2024, read off a plot for MLP 10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int

from neurons.intervention.context import PER_YEAR, AblationContext
from neurons.intervention.curve_results import KINDS, Curve, Curves, Kind, PublishedCurve
from neurons.intervention.draws import ONE_DRAW
from neurons.intervention.groups import MEASURES, group_measures
from neurons.intervention.results import NeuronEffects
from neurons.model.forward import run_in_blocks
from neurons.model.model import Model
from neurons.rounding import MARGIN, ascending, descending, is_nothing
from neurons.task import behaviour
from neurons.types import Ablation, InputError, Measure, Progress

KEPT = 0.9
SEEDS = 20
RANDOM = "random"
PUBLISHED_K = (15, 65, 99)


def sizes(count: int) -> Int[np.ndarray, " K"]:
    """Return 0, 1, 2, 4, ... and `count` itself."""
    powers = 2 ** np.arange(count.bit_length())
    return np.unique([0, *powers[powers < count], count])


def variance_order(ctx: AblationContext) -> Int[np.ndarray, " M"]:
    """Order neurons by the variance of their activation over all prompts of the cache, largest first."""
    variance = [ctx.activations.layer(layer).variance for layer in ctx.cache.layers]
    return descending(np.concatenate(variance))


def effect_order(ctx: AblationContext, effects: NeuronEffects) -> Int[np.ndarray, " M"]:
    """Order neurons by exact effect, most boosting (negative) first; one without an exact effect counts as 0."""
    known = np.zeros((len(ctx.cache.layers), ctx.cache.d_mlp))
    row = {layer: i for i, layer in enumerate(ctx.cache.layers)}
    for neuron, value in zip(effects.neurons, effects.effect.tolist(), strict=True):
        known[row[neuron.layer], neuron.index] = value
    return ascending(known.reshape(-1))


def curves(
    ctx: AblationContext,
    orders: Mapping[str, Int[np.ndarray, " M"]],
    *,
    ablation: Ablation = "random-year",
    draws: int = ONE_DRAW,
    seeds: int = SEEDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curves:
    """Compute top-k curves for each order and for `seeds` random ones.

    orders: name -> all neurons of the cached layers as positions layer by layer (layer's row times neurons
    a layer, plus index), best first. draws: random other start years for each prompt.

    On many neurons a sample of the prompts is run. Raises `InputError` for an order that does not hold every neuron
    once.
    """
    count = len(ctx.cache.layers) * ctx.cache.d_mlp
    for name, order in orders.items():
        if not np.array_equal(np.sort(order), np.arange(count)):
            raise InputError(f"the order {name!r} does not hold each of the {count} neurons once")
    rng = np.random.default_rng(seed)
    drawn = {f"{RANDOM} {i}": rng.permutation(count) for i in range(seeds)}
    ks = sizes(count)
    some = ctx.sampled(len(KINDS) * (len(orders) + seeds) * len(ks))
    values = _measure_sets(some, {**orders, **drawn}, ks, ablation, draws, progress)
    found = [
        _curve(name, kind, measure, ks, values[measure], names)
        for name, names in {**{name: [name] for name in orders}, RANDOM: list(drawn)}.items()
        for kind in KINDS
        for measure in MEASURES
        if names
    ]
    return Curves(ctx.cache.model, ablation, count, len(some), seeds, tuple(found))


Values = dict[tuple[str, Kind], Float[np.ndarray, " K"]]


def _measure_sets(
    ctx: AblationContext,
    orders: Mapping[str, Int[np.ndarray, " M"]],
    ks: Int[np.ndarray, " K"],
    ablation: Ablation,
    draws: int,
    progress: Progress | None,
) -> dict[Measure, Values]:
    """Each measure at each k of each order; a set that several of them ask for is run once."""
    shape = (len(ctx.cache.layers), ctx.cache.d_mlp)
    row_of: dict[bytes, int] = {}
    groups: list[np.ndarray] = []
    rows: dict[tuple[str, Kind], list[int]] = {}
    for name, order in orders.items():
        top = np.argsort(order, kind="stable") < ks[:, None]
        for kind, masks in zip(KINDS, (~top, top), strict=True):
            for mask in masks:
                if row_of.setdefault(mask.tobytes(), len(groups)) == len(groups):
                    groups.append(mask)
            rows[name, kind] = [row_of[mask.tobytes()] for mask in masks]
    sets = np.stack(groups).reshape(-1, *shape)
    measured = group_measures(ctx, sets, ablation=ablation, draws=draws, progress=progress)
    return {measure: {key: values.mean(1)[at] for key, at in rows.items()} for measure, values in measured.items()}


def _curve(
    name: str, kind: Kind, measure: Measure, k: Int[np.ndarray, " K"], values: Values, members: Sequence[str]
) -> Curve:
    drawn = np.stack([values[member, kind] for member in members])
    mean = drawn.mean(0)
    low, high = np.percentile(drawn, [5, 95], axis=0)
    kept = mean if kind == "keep" else mean[::-1]
    whole = kept[-1] - kept[0]
    share = (mean - kept[0]) / whole if not is_nothing(whole, np.abs(mean).max()) else np.full(len(k), np.nan)
    width = np.log2(1 + k)
    return Curve(
        order=name, kind=kind, measure=measure, k=k, values=mean, low=low, high=high,
        k90=_k90(k, share) if kind == "keep" else None,
        area=float(np.trapezoid(share, width / width[-1])),
    )  # fmt: skip


def _k90(k: Int[np.ndarray, " K"], share: Float[np.ndarray, " K"]) -> int | None:
    """The smallest k from which on the share stays at 0.9 or more; None where nothing changes."""
    short = np.flatnonzero(~(share >= KEPT * (1 - MARGIN)))
    if len(short) and short[-1] == len(k) - 1:
        return None
    return int(k[short[-1] + 1]) if len(short) else int(k[0])


def published_curve(
    ctx: AblationContext, *, layer: int | None = None, progress: Progress | None = None
) -> PublishedCurve:
    """Compute the top-k curve of one layer by activation variance, the rest zeroed at all positions.

    layer: default the last but one (layer 10 of GPT-2 small). A neuron is zeroed at all positions by a row of zeros in
    W_out, so this is the whole forward of a changed model.

    On many neurons a sample of the prompts is run. Raises `InputError` for a layer that is not in the cache.
    """
    at = ctx.cache.check_layer(ctx.model.config.n_layers - 2 if layer is None else layer)
    order = descending(ctx.activations.layer(at).variance)
    ks = np.unique([*sizes(len(order)), *(k for k in PUBLISHED_K if k < len(order))])
    some = ctx.sampled(len(ks) * ctx.model.config.n_layers, least=PER_YEAR // 2)  # each runs every layer everywhere
    tokens, year_ids, averaging = some.tokens[some.rows], some.year_ids, some.averaging
    values = []
    for done, k in enumerate(ks.tolist()):
        kept = keeping(ctx.model, at, order[:k])
        values.append(among_years(kept, tokens, some.start_year, year_ids, shared=some.shared) @ averaging.T)
        if progress:
            progress(done + 1, len(ks))
    return PublishedCurve(ctx.cache.model, at, ks, np.array(values).mean(1))


def keeping(model: Model, layer: int, neurons: Int[np.ndarray, " k"]) -> Model:
    """Return the model without the other neurons of the layer, at every position."""
    block = model.blocks[layer]
    kept = torch.zeros(len(block.W_out), 1, dtype=torch.bool)
    kept[neurons.tolist()] = True
    changed = replace(block, W_out=block.W_out * kept.to(model.device))
    return replace(model, blocks=(*model.blocks[:layer], changed, *model.blocks[layer + 1 :]))


def among_years(
    model: Model,
    tokens: Int[np.ndarray, "P T"],
    start_year: Int[np.ndarray, " P"],
    year_ids: Int[np.ndarray, "100"],
    *,
    shared: int,
) -> Float[np.ndarray, " P"]:
    """Return the probability difference of each prompt, the softmax over the 100 years alone."""
    values = np.empty(len(tokens))
    for part, found in run_in_blocks(model, tokens, shared=shared, layers=(), year_token_ids=year_ids):
        probabilities = found.year_logits.softmax(-1).numpy(force=True).astype(float)
        values[part] = behaviour.probability_difference(probabilities, start_year[part])
    return values
