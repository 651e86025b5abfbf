"""The field's approximations against autograd on the whole Hugging Face model, hooked or with parts frozen."""

import numpy as np
import pytest
import torch
from hooked_shares import HookedShares, hooked_shares
from oracle import relative
from random_gpt2 import write_random_gpt2
from relp_oracle import frozen_parts
from torch import Tensor

from neurons.attribution.approximations import alone, gradients_between_inputs, one_gradient, relp
from neurons.cache.build import cache_activations
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.intervention.groups import MEASURES
from neurons.model.checkpoint import load_model
from neurons.task.prompts import year_spans

DOUBLE = 1e-8
SPREAD = (2, 45, 98)


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> AblationContext:
    folder = tmp_path_factory.mktemp("approximations")
    model = load_model(write_random_gpt2(folder / "model", n_layer=4, n_embd=24, n_head=3, n_inner=20, seed=3))
    cache = cache_activations(model, year_spans(model.tokenizer, nouns=2), layers=(1, 2), cache_dir=folder)
    return ablation_context(model.to(torch.float64), cache, years=SPREAD)


@pytest.fixture
def oracle(ctx: AblationContext) -> HookedShares:
    return hooked_shares(ctx.model, ctx.cache.layers, ctx.year_ids)


def prompts_of(ctx: AblationContext) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens and start years of the measured prompts, and their other prompts' tokens for one draw."""
    others = random_years(ctx.cache, draws=1)[0, ctx.rows]
    return ctx.tokens[ctx.rows], ctx.cache.start_year[ctx.rows], ctx.tokens[others]


def gradient_at_end(oracle: HookedShares, measure: str, tokens: np.ndarray, year: np.ndarray) -> Tensor:
    """With respect to each activation of the layers at END [P, L N]."""
    other = {layer: torch.zeros_like(post) for layer, post in oracle.post(tokens).items()}
    masks = {layer: torch.ones_like(post, requires_grad=True) for layer, post in other.items()}
    added = {layer: torch.zeros_like(post, requires_grad=True) for layer, post in other.items()}
    handles = [
        oracle.hf.transformer.h[layer].mlp.act.register_forward_hook(
            lambda _, __, out, at=layer: torch.cat([out[:, :-1], (out[:, -1] + added[at])[:, None]], 1)
        )
        for layer in oracle.layers
    ]
    value = oracle.values(measure, tokens, year, masks, other).sum()
    for handle in handles:
        handle.remove()
    return torch.cat(torch.autograd.grad(value, list(added.values())), -1)


def averaged(ctx: AblationContext, values: Tensor) -> np.ndarray:
    return ctx.averaging.mean(0) @ values.detach().numpy()


def flat(post: dict[int, Tensor]) -> Tensor:
    return torch.cat(list(post.values()), -1)


def test_one_gradient_at_the_clean_run_is_attribution_patching(ctx: AblationContext, oracle: HookedShares) -> None:
    tokens, year, others = prompts_of(ctx)
    away = flat(oracle.post(tokens)) - flat(oracle.post(others))
    for measure, found in one_gradient(ctx, draws=1).items():
        expected = averaged(ctx, gradient_at_end(oracle, measure, tokens, year) * away)
        assert relative(found, expected) < DOUBLE


def test_gradients_between_inputs_equal_hooks_on_the_embeddings(ctx: AblationContext, oracle: HookedShares) -> None:
    tokens, year, others = prompts_of(ctx)
    away = flat(oracle.post(tokens)) - flat(oracle.post(others))
    embedding, ids = oracle.hf.transformer.wte, torch.as_tensor(others, dtype=torch.long)
    for measure, found in gradients_between_inputs(ctx, steps=3, draws=1).items():
        total = torch.zeros_like(away)
        for alpha in (1 / 3, 2 / 3, 1):
            at_other = embedding.weight[ids]
            handle = embedding.register_forward_hook(
                lambda _, __, out, at_other=at_other, alpha=alpha: at_other + alpha * (out - at_other)
            )
            total += gradient_at_end(oracle, measure, tokens, year) / 3
            handle.remove()
        assert relative(found, averaged(ctx, total * away)) < DOUBLE


def test_neurons_alone_equal_hooks(ctx: AblationContext, oracle: HookedShares) -> None:
    tokens, year, others = prompts_of(ctx)
    other = oracle.post(others)
    neurons = (0, 7, 25, 39)
    for measure, found in alone(ctx, draws=1).items():
        masks = {layer: torch.ones_like(post) for layer, post in other.items()}
        clean = oracle.values(measure, tokens, year, masks, other)
        lost = []
        for n in neurons:
            without = {layer: mask.clone() for layer, mask in masks.items()}
            without[ctx.cache.layers[n // 20]][:, n % 20] = 0
            lost.append(averaged(ctx, clean - oracle.values(measure, tokens, year, without, other)))
        assert found[list(neurons)] == pytest.approx(lost, rel=DOUBLE)


def test_relp_is_autograd_with_scales_patterns_and_ratios_frozen(ctx: AblationContext, oracle: HookedShares) -> None:
    tokens, year, _ = prompts_of(ctx)
    mean = np.concatenate([ctx.cache.post(layer).mean(0, dtype=float) for layer in ctx.cache.layers])
    with frozen_parts(oracle.hf.transformer):
        away = flat(oracle.post(tokens)) - torch.as_tensor(mean)
        expected = {m: averaged(ctx, gradient_at_end(oracle, m, tokens, year) * away) for m in MEASURES}
    for measure, found in relp(ctx).items():
        assert relative(found, expected[measure]) < DOUBLE
