"""A small model whose sets are counted by hand."""

import pytest
import torch
from random_gpt2 import write_random_gpt2

from neurons.cache.build import cache_activations
from neurons.intervention.context import AblationContext, ablation_context
from neurons.model.checkpoint import load_model
from neurons.task.prompts import year_spans


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> AblationContext:
    """Ten neurons in two of three layers, in double precision; four start years of two centuries."""
    folder = tmp_path_factory.mktemp("ten-neurons")
    model = load_model(write_random_gpt2(folder / "model", n_layer=3, n_embd=24, n_head=3, n_inner=5, seed=1))
    prompts = year_spans(model.tokenizer, nouns=2, centuries=(13, 17))
    cached = cache_activations(model, prompts, layers=(0, 1), cache_dir=folder)
    return ablation_context(model.to(torch.float64), cached, years=(12, 34, 56, 78))
