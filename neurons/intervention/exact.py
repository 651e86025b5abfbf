"""Ablate neurons at END, alone and in sets, and measure the exact effect.

1. `references`: the measure in the clean run, in the corrupted run, and of the average distribution. Read an effect
   against these reference values.
2. `neuron_effects`: the exact effect of each neuron, in blocks of prompts and neurons. Finished blocks are
   kept beside the cache file, so an interrupted run continues where it stopped. Estimates stand beside the effect,
   under their own names.
3. `group_effect`: neurons ablated together.

Under random-year ablation a neuron alone has one draw for each prompt, sets have four (`draws`). An effect is the
measure when ablated minus the measure in the clean run: a boosting neuron's is negative.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from neurons.cache.format import Cache, format_layers
from neurons.cache.parts import Parts, parts_beside
from neurons.decomposition.measured import average_distribution
from neurons.intervals import jackknife
from neurons.intervention.context import PROMPT_BLOCK, AblationContext
from neurons.intervention.draws import DRAWS, ONE_DRAW
from neurons.intervention.groups import group_mask, group_measures, neuron_changes
from neurons.intervention.results import GroupEffect, NeuronEffects, References
from neurons.model.device import on_threads
from neurons.rounding import descending
from neurons.task import behaviour
from neurons.task.intervention import Intervention
from neurons.types import (
    OF_LOGITS,
    InputError,
    Measure,
    NeuronId,
    Neurons,
    Progress,
    check_choice,
    check_is,
    check_progress,
    check_whole,
    parse_neurons,
    quoted,
)

Beside = Literal["patching", "score", "year_specific"]
CHUNK = 512
"""Neurons of one kept part: seconds of work in GPT-2 small."""


def floors(ctx: AblationContext, *, progress: Progress | None = None) -> dict[Measure, float]:
    """Return each measure with all neurons of the cached layers together at a random other start year."""
    every = np.ones((1, len(ctx.cache.layers), ctx.cache.d_mlp), bool)
    found = group_measures(ctx, every, ablation="random-year", progress=progress)
    return {measure: float(values.mean()) for measure, values in found.items()}


def references(ctx: AblationContext, measure: Measure, *, floor: float | None = None) -> References:
    """Return the reference values of an effect, from the cache alone but for the floor, which is given."""
    check_choice("measure", measure, Measure)
    cache = ctx.cache
    average = np.log(average_distribution(cache))
    logits_01, total_01 = cache.read("counterfactual/year_logits"), cache.read("counterfactual/logsumexp")
    baseline, counterfactual, without_year = np.zeros((3, len(ctx)))
    for block in ctx.blocks():
        rows = ctx.rows[block]
        whole = slice(int(rows[0]), int(rows[-1]) + 1)
        own, query = rows - whole.start, cache.counterfactual[rows]
        logits, total = cache.read("final/year_logits", whole)[own], cache.logsumexp[rows]
        baseline[block] = _scores(ctx, block, measure, logits, total)
        counterfactual[block] = _scores(ctx, block, measure, logits_01[query], total_01[query])
        everywhere = np.broadcast_to(average, logits.shape)
        without_year[block] = _scores(ctx, block, measure, everywhere, np.zeros(len(rows)))
    clean, corrupted, average = (
        float((ctx.averaging @ values).mean()) for values in (baseline, counterfactual, without_year)
    )
    return References(clean, floor, corrupted, average)


def _scores(
    ctx: AblationContext, block: slice, measure: Measure, logits: np.ndarray, total: np.ndarray
) -> Float[np.ndarray, " B"]:
    years = ctx.start_year[block]
    answer = logits if measure in OF_LOGITS else behaviour.year_probabilities(logits, total)
    score: Float[np.ndarray, " B"] = getattr(behaviour, measure)(answer, years)
    return score


def all_neurons(cache: Cache) -> tuple[NeuronId, ...]:
    """Return every neuron of the cached layers, layer by layer."""
    return tuple(NeuronId(layer, index) for layer in cache.layers for index in range(cache.d_mlp))


def check_neurons(cache: Cache, neurons: Neurons) -> tuple[NeuronId, ...]:
    """Return the neurons without repeats, in the order given; raises `InputError` for one outside the cache, or for
    none.
    """
    found = tuple(map(cache.check_neuron, parse_neurons(neurons)))
    if not found:
        raise InputError("no neuron named: write layer and index like L9N12")
    return found


def top_of(ctx: AblationContext, values: Float[np.ndarray, "L N"], count: int | Literal["all"]) -> tuple[NeuronId, ...]:
    """Return the neurons whose values are largest in size; raises `InputError` for more than there are."""
    neurons = all_neurons(ctx.cache)
    if count == "all":
        return neurons
    if not 1 <= check_whole("count", count) <= len(neurons):
        raise InputError(
            f"{count} neurons asked for: layers {format_layers(ctx.cache.layers)} have 1 to {len(neurons)}"
        )
    largest = descending(np.abs(values).reshape(-1))[:count]
    return tuple(neurons[row] for row in largest.tolist())


def neuron_effects(
    ctx: AblationContext,
    neurons: Neurons,
    intervention: Intervention = Intervention(),  # noqa: B008 - frozen
    *,
    beside: Mapping[Beside, Float[np.ndarray, "L N"]] = MappingProxyType({}),
    draws: int = ONE_DRAW,
    keep: bool = True,
    progress: Progress | None = None,
) -> NeuronEffects:
    """Ablate each neuron alone at END and measure its exact effect, with an interval over centuries.

    beside: by cached layer and index, to stand beside the effects (`patching.attribution_patching`; `score` and
    `year_specific` of `scores.direct_scores`). draws: random other start years for each prompt. keep: finished parts
    go to a folder beside the cache file and are not computed again, by this run after an interruption or by another
    that asks for the same.
    `progress` counts neurons times prompts.

    Raises `InputError` for a neuron outside the cache, `CacheError` if the folder cannot be written.
    """
    _check_asked(ctx, intervention)
    _check_tables(ctx, beside)
    check_is("keep", keep, bool, "True or False")
    check_progress(progress)
    found = check_neurons(ctx.cache, neurons)
    parts = effect_parts(ctx, intervention, draws=draws) if keep else None
    means = _means(ctx, found, intervention, parts, draws, progress)
    by_start_year, without = np.split(means, [len(ctx.start_years)], axis=1)
    over_centuries = jackknife(by_start_year.mean(1), without.T)
    return NeuronEffects(
        model=ctx.cache.model, intervention=intervention, n_prompts=len(ctx), start_years=ctx.start_years,
        draws=_drawn(intervention, draws), neurons=found, effect=over_centuries.estimate, ci_low=over_centuries.low,
        ci_high=over_centuries.high, by_start_year=by_start_year,
        **{name: _of(ctx.cache, found, beside.get(name)) for name in get_args(Beside)},
    )  # fmt: skip


def _means(
    ctx: AblationContext,
    neurons: tuple[NeuronId, ...],
    intervention: Intervention,
    parts: Parts | None,
    draws: int,
    progress: Progress | None,
) -> Float[np.ndarray, "M YC"]:
    """Mean changes at each start year, then over start years without each century in turn."""
    weights = _year_and_century_weights(ctx)
    means = np.zeros((len(neurons), len(weights)))

    def of_block(block: slice) -> Iterator[tuple[int, np.ndarray | None]]:
        changes = np.full((len(neurons), block.stop - block.start), np.nan)
        for done in fill_block(ctx, block, neurons, intervention, parts, changes, draws=draws):
            yield len(neurons) * block.start + done * changes.shape[1], None
        yield len(neurons) * block.stop, changes @ weights[:, block].T

    for done, added in on_threads(ctx.model, of_block, ctx.blocks()):
        if added is not None:
            means += added
        if progress:
            progress(done, len(neurons) * len(ctx))
    return means


def _year_and_century_weights(ctx: AblationContext) -> Float[np.ndarray, "YC P"]:
    return np.concatenate([ctx.averaging, ctx.averaging_without])


def _drawn(intervention: Intervention, draws: int) -> int:
    return draws if intervention.ablation == "random-year" else 1


def _check_asked(ctx: AblationContext, intervention: Intervention) -> None:
    check_is("ctx", ctx, AblationContext, "what ablation_context(model, cache) returns")
    check_is("intervention", intervention, Intervention, "an Intervention")


def _check_tables(ctx: AblationContext, beside: Mapping[Beside, Float[np.ndarray, "L N"]]) -> None:
    check_is("beside", beside, Mapping, "arrays by name")
    shape = (len(ctx.cache.layers), ctx.cache.d_mlp)
    for name, table in beside.items():
        check_choice("beside", name, Beside)
        if not isinstance(table, np.ndarray) or table.shape != shape:
            raise InputError(f"{name} must be an array of shape {shape}, layers by neurons, not {quoted(table)}")


def fill_block(
    ctx: AblationContext,
    block: slice,
    neurons: Sequence[NeuronId],
    intervention: Intervention,
    parts: Parts | None,
    changes: Float[np.ndarray, "M B"],
    *,
    draws: int = ONE_DRAW,
) -> Iterator[int]:
    """Fill in the changes on one block of prompts: what is kept first, then what is missing, layer by layer.

    Yields how many neurons are done. An independent task for each block.
    """
    prefix = f"prompts{block.start:05d}"
    row_of = {neuron: row for row, neuron in enumerate(neurons)}
    if parts is not None:
        for neuron, values in _kept_changes(parts, prefix, changes.shape[1]):
            if neuron in row_of:
                changes[row_of[neuron]] = values
    missing = sorted(neuron for neuron, row in row_of.items() if np.isnan(changes[row]).any())
    yield len(neurons) - len(missing)
    saved = 0
    for part, values in neuron_changes(ctx, block, missing, intervention, draws=draws) if missing else ():
        changes[[row_of[neuron] for neuron in missing[part]]] = values
        if parts is not None and (part.stop - saved >= CHUNK or part.stop == len(missing)):
            _keep_changes(parts, prefix, missing[saved : part.stop], changes, row_of)
            saved = part.stop
        yield len(neurons) - len(missing) + part.stop


def effect_parts(ctx: AblationContext, intervention: Intervention, *, draws: int = ONE_DRAW) -> Parts:
    """Return where the finished effects of this context and intervention are kept."""
    drawn = {"draws": draws, "seed": ctx.seed} if intervention.ablation == "random-year" else {}
    settings = {
        **drawn,
        **vars(intervention),
        "rows": hashlib.sha256(ctx.rows.astype("<i8").tobytes()).hexdigest(),
        "prompt_block": PROMPT_BLOCK,
        "dtype": str(ctx.model.W_E.dtype),
    }
    return parts_beside(ctx.cache, "causal", settings)


def _keep_changes(
    parts: Parts, prefix: str, neurons: Sequence[NeuronId], changes: np.ndarray, row_of: dict[NeuronId, int]
) -> None:
    names = np.array([(neuron.layer, neuron.index) for neuron in neurons], dtype=np.int64)
    parts.save(prefix, {"neurons": names, "changes": changes[[row_of[neuron] for neuron in neurons]]})


def _kept_changes(parts: Parts, prefix: str, n_prompts: int) -> Iterator[tuple[NeuronId, np.ndarray]]:
    for arrays in parts.load(prefix):
        names, values = arrays.get("neurons"), arrays.get("changes")
        if names is None or values is None or values.shape != (len(names), n_prompts) or values.dtype != np.float64:
            continue
        yield from zip((NeuronId(layer, index) for layer, index in names.tolist()), values, strict=True)


def _of(cache: Cache, neurons: Sequence[NeuronId], table: Float[np.ndarray, "L N"] | None) -> Float[np.ndarray, " M"]:
    if table is None:
        return np.full(len(neurons), np.nan)
    row = {layer: i for i, layer in enumerate(cache.layers)}
    return np.array([table[row[neuron.layer], neuron.index] for neuron in neurons])


def group_effect(
    ctx: AblationContext,
    neurons: Neurons,
    intervention: Intervention = Intervention(),  # noqa: B008
    *,
    draws: int = DRAWS,
) -> GroupEffect:
    """Ablate all the neurons together, at all their layers; every measure that the effect has."""
    _check_asked(ctx, intervention)
    found = check_neurons(ctx.cache, neurons)
    chosen = group_mask(ctx.cache.layers, ctx.cache.d_mlp, found)
    measures = group_measures(
        ctx, np.stack([np.zeros_like(chosen), chosen]), ablation=intervention.ablation, effect=intervention.effect,
        draws=draws, weights=_year_and_century_weights(ctx),
    )  # fmt: skip
    by_start_year, interval = {}, {}
    for measure, (without, ablated) in measures.items():
        by_start_year[measure], left_out = np.split(ablated - without, [len(ctx.start_years)])
        over_centuries = jackknife(np.asarray(by_start_year[measure].mean()), left_out)
        interval[measure] = float(over_centuries.low), float(over_centuries.high)
    return GroupEffect(found, _drawn(intervention, draws), by_start_year, interval)
