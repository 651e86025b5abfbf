"""Attribution at every layer and position: against autograd on the whole Hugging Face model with parts frozen."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hooked_shares import hooked_shares
from oracle import relative
from random_gpt2 import write_random_gpt2
from relp_oracle import frozen_parts
from torch import Tensor

from neurons.attribution.position_results import Positions
from neurons.attribution.positions import attribute_positions
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.intervention.groups import MEASURES
from neurons.model.checkpoint import load_model
from neurons.model.model import Model
from neurons.task.prompts import year_spans
from neurons.types import InputError, Measure, NeuronId

DOUBLE = 1e-8
SPREAD = (2, 45, 98)


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> AblationContext:
    folder = tmp_path_factory.mktemp("positions")
    model = load_model(write_random_gpt2(folder / "model", n_layer=4, n_embd=24, n_head=3, n_inner=20, seed=3))
    cache = cache_activations(model, year_spans(model.tokenizer, nouns=2), layers=(1, 2), cache_dir=folder)
    return ablation_context(model.to(torch.float64), cache, years=SPREAD)


def names_of(ctx: AblationContext) -> list[str]:
    return [str(at) for at in range(ctx.tokens.shape[1])]


def relp_by_autograd(ctx: AblationContext, measure: Measure) -> np.ndarray:
    """[P, L, T, N]: of every prompt, with the whole model's own forward."""
    oracle = hooked_shares(ctx.model, ctx.cache.layers, ctx.year_ids)
    tokens, year = torch.as_tensor(ctx.tokens[ctx.rows], dtype=torch.long), ctx.cache.start_year[ctx.rows]
    stack = oracle.hf.transformer
    seen: dict[int, Tensor] = {}

    def keep(layer: int) -> object:
        def hook(_: object, __: object, out: Tensor) -> Tensor:
            seen[layer] = out if out.requires_grad else out.requires_grad_()
            return seen[layer]

        return hook

    with frozen_parts(stack):
        handles = [block.mlp.act.register_forward_hook(keep(at)) for at, block in enumerate(stack.h)]
        value = oracle._measure(measure, oracle.hf(tokens).logits[:, -1], year).sum()
        gradients = torch.autograd.grad(value, [seen[at] for at in range(len(stack.h))])
        post = [seen[at].detach() for at in range(len(stack.h))]
        others = []
        for taken in random_years(ctx.cache, draws=2, seed=4):
            oracle.hf(torch.as_tensor(ctx.tokens[taken[ctx.rows]], dtype=torch.long))
            others.append([seen[at].detach() for at in range(len(stack.h))])
        for handle in handles:
            handle.remove()
    parts = [
        gradient * (own - (one + other) / 2) for gradient, own, one, other in zip(gradients, post, *others, strict=True)
    ]
    return torch.stack(parts, 1).numpy()


@pytest.mark.parametrize("measure", MEASURES)
def test_every_position_equals_autograd_with_scales_patterns_and_ratios_frozen(
    ctx: AblationContext, measure: Measure
) -> None:
    found = attribute_positions(ctx, names=names_of(ctx), measure=measure, draws=2, seed=4)
    by_year = np.einsum("yp,pltn->yltn", ctx.averaging, relp_by_autograd(ctx, measure))
    expected = by_year.mean(0)
    assert relative(found.attribution, expected[:, found.first :]) < DOUBLE
    assert np.abs(expected[:, : found.first]).max() < 1e-15, "nothing before YY depends on it"


def test_the_names_are_those_of_all_positions(ctx: AblationContext) -> None:
    with pytest.raises(InputError, match="2 names of positions: a prompt has 13"):
        attribute_positions(ctx, names=["BOS", "YY"])


def test_parts_add_up_and_leaders_lie_before_end() -> None:
    attribution = np.zeros((2, 3, 4))
    attribution[0, 0, 1], attribution[1, 1, 2], attribution[1, 2, 0] = -3.0, 1.0, 4.0
    found = Positions("m", "contrast", ("BOS", "XX", "YY", "to", "END"), attribution)
    np.testing.assert_allclose(found.part, [[0, 0, 3 / 8, 0, 0], [0, 0, 0, 1 / 8, 4 / 8]])
    assert found.before_end == pytest.approx(0.5)
    assert found.leaders(2) == ((NeuronId(0, 1), 2, -3.0), (NeuronId(1, 2), 3, 1.0))
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["leaders"][0]["name"] == "YY"
    nothing = replace(found, attribution=np.zeros((2, 3, 4)))
    assert nothing.before_end == 0


def test_a_fifth_of_mini_lies_before_end(mini_model: Model, mini_cache: Cache) -> None:
    ctx = ablation_context(mini_model, mini_cache, nouns=1)
    found = attribute_positions(ctx, names=names_of(ctx))
    assert 0.1 < found.before_end < 0.4
    assert found.part.sum() == pytest.approx(1)
