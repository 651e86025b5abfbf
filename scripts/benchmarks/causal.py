"""Exact total effects of removing neurons, against one hooked forward of the whole model a neuron.

Both get the prompts of one noun in one batch; the hooked model holds the neuron at its activation on the
01-counterfactual, as ours does.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch

import neurons
from benchmarks.memory import peaks
from benchmarks.pairs import Row, Turns, alternate, row
from benchmarks.setting import Setting
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.groups import neuron_changes
from neurons.task.intervention import Intervention
from neurons.task.years import contrast_weights, later
from neurons.types import Measure, NeuronId

COUNTS: dict[Measure, int] = {"contrast": 512, "probability_difference": 128}
"""Neurons of one of our turns, spread evenly over the layers."""
HOOKED = 2
WHOLE = 1000
"""Neurons that the row's seconds are given for."""
TOLERANCE = 1e-5
"""In units of the measure, logits or probability: effects are small differences of float32 numbers near 1."""
ASKED: dict[Measure, dict[str, float]] = {
    "contrast": {"at_least": 100, "aim": 150},
    "probability_difference": {"at_least": 20, "aim": 35},
}


class Removal:
    """The experiment on one noun, and the Hugging Face model with a hook that replaces one activation at END."""

    def __init__(self, setting: Setting) -> None:
        self.model = setting.model
        prompts = neurons.year_spans(self.model.tokenizer, nouns=1, centuries="draw")
        cache = neurons.cache_activations(self.model, prompts, cache_dir=setting.folder)
        held = set(cache.start_year.tolist())
        self.ctx: AblationContext = ablation_context(
            self.model, cache, years=[year for year in range(2, 99) if year in held]
        )
        self.ctx.held("resample", slice(0, 1))

    def chosen(self, count: int) -> list[NeuronId]:
        """The first of them are of the first layer, where most is run again after the change."""
        rng, cache = np.random.default_rng(0), self.ctx.cache
        each = min(count // len(cache.layers), cache.d_mlp)
        return [NeuronId(layer, int(i)) for layer in cache.layers for i in rng.choice(cache.d_mlp, each, replace=False)]

    @cached_property
    def hf(self) -> Any:
        from transformers import GPT2LMHeadModel

        return GPT2LMHeadModel.from_pretrained(self.model.checkpoint.folder, attn_implementation="eager").eval()

    @cached_property
    def baseline(self) -> torch.Tensor:
        return self.logits(None)

    @torch.inference_mode()
    def logits(self, neuron: NeuronId | None) -> torch.Tensor:
        """At END, with the neuron replaced."""
        handles = []
        if neuron is not None:
            values = self.ctx.post_01[neuron.layer][self.ctx.cache.counterfactual[self.ctx.rows], neuron.index]

            def replace(_: Any, __: Any, activations: torch.Tensor) -> torch.Tensor:
                activations[:, -1, neuron.index] = values
                return activations

            handles.append(self.hf.transformer.h[neuron.layer].mlp.act.register_forward_hook(replace))
        logits = self.hf(torch.as_tensor(self.ctx.tokens[self.ctx.rows], dtype=torch.long)).logits[:, -1]
        for handle in handles:
            handle.remove()
        return logits

    def measured(self, logits: torch.Tensor, measure: Measure) -> np.ndarray:
        years = self.ctx.start_year.tolist()
        if measure == "contrast":
            return (logits[:, self.ctx.year_ids].double().numpy() * contrast_weights(years)).sum(1)
        return (logits.double().softmax(-1)[:, self.ctx.year_ids].numpy() * np.where(later(years), 1.0, -1.0)).sum(1)


def rows(setting: Setting) -> list[Row]:
    removal = Removal(setting)
    return [_row(setting, removal, measure) for measure in COUNTS]


def _row(setting: Setting, removal: Removal, measure: Measure) -> Row:
    chosen = removal.chosen(COUNTS[measure])
    turns = Turns(
        _ours(removal, measure),
        _peer(removal, measure),
        lambda ours, peer: float(np.abs(ours[: len(peer)] - peer).max()),
        ours_share=len(chosen) / WHOLE,
        peer_share=HOOKED / WHOLE,
    )
    times, apart = alternate(turns)
    prompts = len(removal.ctx)
    done = WHOLE * prompts
    return row(
        "causal",
        times,
        work=f"exact total effect on the {measure.replace('_', ' ')}, {WHOLE:,} neurons x {prompts} prompts",
        peer_is="one hooked forward a neuron, its prompts in one batch",
        found=apart,
        tolerance=TOLERANCE,
        operations=done * _operations(removal, measure),
        notes=[
            f"timed on {len(chosen)} and {HOOKED} neurons: {done / np.median(times.ours):,.0f} and"
            f" {done / np.median(times.peer):,.1f} neurons x prompts a second"
        ],
        **ASKED[measure],
        **peaks("causal", setting, ours=f"ours_{measure}", peer=f"peer_{measure}"),
    )


def _ours(removal: Removal, measure: Measure) -> Callable[[int], np.ndarray]:
    """The trace of the prompts is part of the time."""
    chosen, ctx = removal.chosen(COUNTS[measure]), removal.ctx

    def work(_: int) -> np.ndarray:
        block = slice(0, len(ctx))
        return np.concatenate(
            [values for _, values in neuron_changes(ctx, block, chosen, Intervention("resample", measure=measure))]
        )

    return work


def _peer(removal: Removal, measure: Measure) -> Callable[[int], np.ndarray]:
    chosen = removal.chosen(COUNTS[measure])[:HOOKED]
    before = removal.measured(removal.baseline, measure)

    def work(_: int) -> np.ndarray:
        return np.stack([removal.measured(removal.logits(neuron), measure) - before for neuron in chosen])

    return work


def _operations(removal: Removal, measure: Measure) -> float:
    """Of one neuron and prompt: the layers after its own at END, and the vocabulary where it is read."""
    config, layers = removal.model.config, removal.ctx.cache.layers
    later_layers = np.mean([config.n_layers - 1 - layer for layer in layers])
    once = later_layers * (4 * config.d_model**2 + 2 * config.d_model * config.d_mlp)
    is_run_again = np.mean([layer < config.n_layers - 1 for layer in layers])
    read = config.d_model * config.d_vocab if measure != "contrast" else config.d_model * 100
    return float(2 * (once + is_run_again * read))


def ours_contrast(setting: Setting) -> Callable[[int], np.ndarray]:
    return _ours(Removal(setting), "contrast")


def ours_probability_difference(setting: Setting) -> Callable[[int], np.ndarray]:
    return _ours(Removal(setting), "probability_difference")


def peer_contrast(setting: Setting) -> Callable[[int], np.ndarray]:
    return _peer(Removal(setting), "contrast")


def peer_probability_difference(setting: Setting) -> Callable[[int], np.ndarray]:
    return _peer(Removal(setting), "probability_difference")
