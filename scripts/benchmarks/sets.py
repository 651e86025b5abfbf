"""Sets of neurons kept, and descriptions held in place of the neurons, against one hooked forward a set.

Both sides get the prompts of one noun and century in one batch. A set runs as it is while all other neurons are at a
random other start year; a description holds every neuron at END at a value for each start year.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

import neurons
from benchmarks.hooked import Hooked
from benchmarks.pairs import Row, Turns, alternate, difference, row
from benchmarks.setting import Setting
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import ONE_DRAW, random_years
from neurons.intervention.readers import measure_weights
from neurons.ranking.sets import RECOVERED, first_of, kept_measures
from neurons.regression.faithfulness import measured_cells, written_by
from neurons.types import OF_LOGITS, Measure

SETS = 64
CONTRAST_SETS = 192
"""Of one of our turns: the prompts are run once for all of them."""
TOLERANCE = 1e-4
"""Of the largest value: float32 logits differ in their last bits, and the sharpness is a small difference of
probabilities."""
CONTRAST: tuple[Measure, ...] = ("contrast",)
Results = dict[str, np.ndarray]


class Sets:
    """Prompts of one noun and century, sets of growing size in a random order, and descriptions of the neurons."""

    def __init__(self, setting: Setting) -> None:
        model = setting.model
        prompts = neurons.year_spans(model.tokenizer, nouns=1, centuries="draw")
        cache = neurons.cache_activations(model, prompts, cache_dir=setting.folder)
        self.ctx: AblationContext = ablation_context(model, cache)
        self.hooked = Hooked(self.ctx)
        self.other = random_years(cache, draws=ONE_DRAW)[0, self.ctx.rows]
        self.neurons = len(cache.layers) * cache.d_mlp
        self.order = np.random.default_rng(0).permutation(self.neurons)
        shape = (SETS, 1, len(self.ctx.start_years), self.neurons)
        self.curves = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)

    @cached_property
    def drawn(self) -> dict[int, torch.Tensor]:
        """Activations of the prompts drawn for these."""
        return self.hooked.activations(self.other)

    def sizes(self, count: int) -> list[int]:
        """From none to all of the neurons."""
        return np.linspace(0, self.neurons, count).astype(int).tolist()

    def keep(self, measures: tuple[Measure, ...], count: int) -> Results:
        sets = first_of(self.order, self.sizes(count))
        return dict(kept_measures(self.ctx, sets, measures=measures, draws=ONE_DRAW))

    def hold(self) -> Results:
        cells = measured_cells(self.ctx, [written_by(self.ctx, curves) for curves in self.curves])
        return {measure: cells[measure][:, 0] for measure in RECOVERED}

    def keep_hooked(self, measures: tuple[Measure, ...], size: int) -> Results:
        """One of the sets."""
        kept = torch.as_tensor(first_of(self.order, [size])[0]).split(self.ctx.cache.d_mlp)
        drawn = [self.drawn[layer] for layer in self.ctx.cache.layers]
        return self._hooked(measures, lambda at, out: torch.where(kept[at], out, drawn[at]))

    def hold_hooked(self, which: int) -> Results:
        """One of the descriptions."""
        at_prompt = np.searchsorted(self.ctx.start_years, self.ctx.start_year)
        held = torch.as_tensor(self.curves[which, 0, at_prompt]).split(self.ctx.cache.d_mlp, -1)
        return self._hooked(RECOVERED, lambda at, _: held[at])

    @torch.no_grad()
    def _hooked(self, measures: tuple[Measure, ...], at_end: Callable[[int, torch.Tensor], torch.Tensor]) -> Results:
        """Measures [Y]. at_end: from the place of a layer and its activations at END to what replaces them."""

        def hook(at: int) -> Callable[..., Any]:
            def replace(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
                out[:, -1] = at_end(at, out[:, -1])
                return out

            return replace

        hooks = {layer: hook(at) for at, layer in enumerate(self.ctx.cache.layers)}
        logits, found = self.hooked.end_logits(self.ctx.rows, hooks), {}
        for measure in measures:
            read = logits if measure in OF_LOGITS else logits.softmax(-1)
            weighed = read[:, self.ctx.year_ids].double().numpy() * measure_weights(measure, self.ctx.start_year)
            found[measure] = self.ctx.averaging @ weighed.sum(-1)
        return found


def rows(setting: Setting) -> list[Row]:
    one = Sets(setting)
    one.drawn  # noqa: B018  the peer has them before the time is taken
    kept = "sets of neurons kept, the others at a random other start year"
    return [
        _kept(one, RECOVERED, SETS, f"probability difference and cutoff sharpness of {kept}", at_least=10, aim=15),
        _held(one),
        _kept(one, CONTRAST, CONTRAST_SETS, f"contrast alone of {kept}", at_least=50),
    ]


def _kept(one: Sets, measures: tuple[Measure, ...], count: int, work: str, **asked: Any) -> Row:
    """The peer runs the set in the middle."""
    config, sizes = one.ctx.model.config, one.sizes(count)
    read = config.d_vocab if set(measures) - set(OF_LOGITS) else 100
    mlps = (2 * _layers(one) - 1) * config.d_mlp * np.mean(sizes) / one.neurons
    turns = Turns(
        lambda _: one.keep(measures, count),
        lambda _: one.keep_hooked(measures, sizes[count // 2]),
        lambda ours, peer: difference({name: values[count // 2] for name, values in ours.items()}, peer),
    )
    return _row(one, turns, count, work, 2 * config.d_model * (mlps + read), **asked)


def _held(one: Sets) -> Row:
    config = one.ctx.model.config
    operations = 2 * config.d_model * (_layers(one) * config.d_mlp + config.d_vocab)
    turns = Turns(
        lambda _: one.hold(),
        lambda _: one.hold_hooked(0),
        lambda ours, peer: difference({name: values[0] for name, values in ours.items()}, peer),
    )
    return _row(one, turns, SETS, "the same with all neurons held at descriptions", operations, at_least=10, aim=15)


def _row(one: Sets, turns: Turns, count: int, work: str, operations: float, **asked: Any) -> Row:
    """operations: of one set and prompt in products with MLPs and vocabulary; attention at END is added."""
    times, found = alternate(replace(turns, peer_share=1 / count))
    attention = 2 * (_layers(one) - 1) * 4 * one.ctx.model.config.d_model**2
    return row(
        "sets",
        times,
        work=f"{work}, {count} sets x {len(one.ctx)} prompts",
        peer_is="one hooked forward of the Hugging Face model a set, its prompts in one batch, logits of END alone",
        found=found,
        tolerance=TOLERANCE,
        operations=count * len(one.ctx) * (operations + attention),
        notes=[f"timed on {count} sets and on one"],
        **asked,
    )


def _layers(one: Sets) -> int:
    return len(one.ctx.cache.layers)
