"""Our forward against TransformerBridge and against the Hugging Face model; relative = largest difference /
largest reference value of the tensor."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import bridge_cache, double_bridge, hooked_run, relative, some_tokens
from random_gpt2 import write_random_gpt2

from neurons.model.at_end import resume
from neurons.model.checkpoint import load_model
from neurons.model.config import ACTIVATIONS
from neurons.model.forward import EndRun, EndTrace, run, run_in_blocks, trace
from neurons.model.model import Model, activate
from neurons.task.prompt_set import PAD, PromptSet
from neurons.task.prompts import year_spans
from neurons.types import InputError

SINGLE, DOUBLE = 1e-5, 1e-10
"""Relative tolerances as promised. Measured on mini and in GPT-2's shape: 6e-7 and 1e-6, in float64 1e-15 and 4e-15."""
ALL = tuple(range(12))


def whole_run(model: Model, tokens: np.ndarray, prompts: PromptSet) -> EndRun:
    layers = range(model.config.n_layers)
    return run(model, tokens, shared=prompts.year_position, layers=layers, year_token_ids=prompts.year_token_ids)


def assert_equals_the_bridge(model: Model, bridge: Any, prompts: PromptSet, count: int, tolerance: float) -> None:
    """Both of our passes, against one of the bridge's."""
    tokens = some_tokens(prompts, count)
    logits, kept = bridge_cache(bridge, tokens)
    assert_run_equals(whole_run(model, tokens, prompts), logits, kept, prompts, tolerance)
    assert_trace_equals(trace(model, tokens, shared=prompts.year_position), kept, tolerance)


def assert_run_equals(found: EndRun, logits: torch.Tensor, kept: Any, prompts: PromptSet, tolerance: float) -> None:
    for layer, post in found.post.items():
        assert relative(post, kept[f"blocks.{layer}.mlp.hook_post"][:, -1]) < tolerance
    assert relative(found.residual, kept[f"blocks.{max(found.post)}.hook_resid_post"][:, -1]) < tolerance
    assert relative(found.scale, kept["ln_final.hook_scale"][:, -1, 0]) < tolerance
    assert relative(found.year_logits, logits[:, prompts.year_token_ids]) < tolerance
    assert relative(found.logsumexp, logits.logsumexp(-1)) < tolerance


def assert_trace_equals(found: EndTrace, kept: Any, tolerance: float) -> None:
    embedding = kept["hook_embed"] + kept["hook_pos_embed"]
    assert relative(found.embedding, embedding[:, -1]) < tolerance
    for layer in range(len(found.post)):
        block = f"blocks.{layer}."
        assert relative(found.heads[layer], kept[block + "attn.hook_z"][:, -1]) < tolerance
        assert relative(found.keys[layer].transpose(1, 2), kept[block + "attn.hook_k"][:, :-1]) < tolerance
        assert relative(found.values[layer].transpose(1, 2), kept[block + "attn.hook_v"][:, :-1]) < tolerance
        assert relative(found.mid[layer], kept[block + "hook_resid_mid"][:, -1]) < tolerance
        assert relative(found.post[layer], kept[block + "mlp.hook_post"][:, -1]) < tolerance
        assert relative(found.after[layer], kept[block + "hook_resid_post"][:, -1]) < tolerance


# --- TransformerBridge -----------------------------------------------------------------------------


def test_run_and_trace_equal_the_bridge_on_mini(mini_model: Model, mini_prompts: PromptSet) -> None:
    assert_equals_the_bridge(mini_model, mini_model.bridge, mini_prompts, 60, SINGLE)


def test_run_and_trace_equal_the_bridge_on_mini_in_double(mini_model: Model, mini_prompts: PromptSet) -> None:
    double = mini_model.to(torch.float64)
    assert_equals_the_bridge(double, double_bridge(mini_model), mini_prompts, 60, DOUBLE)


def test_run_and_trace_equal_the_bridge_in_gpt2_s_shape(gpt2_shaped: Model) -> None:
    prompts = year_spans(gpt2_shaped.tokenizer)
    assert_equals_the_bridge(gpt2_shaped, gpt2_shaped.bridge, prompts, 6, SINGLE)


@pytest.mark.long
def test_run_and_trace_equal_the_bridge_in_gpt2_s_shape_in_double(gpt2_shaped: Model) -> None:
    prompts = year_spans(gpt2_shaped.tokenizer)
    double = gpt2_shaped.to(torch.float64)
    assert_equals_the_bridge(double, double_bridge(gpt2_shaped), prompts, 2, DOUBLE)


# --- configs, against the Hugging Face model -------------------------------------------------------

CONFIGS: dict[str, dict[str, Any]] = {name: {"activation_function": name} for name in ACTIVATIONS} | {
    "n_inner": {"n_inner": 20},
    "epsilon": {"layer_norm_epsilon": 0.03},
    "no epsilon": {"layer_norm_epsilon": 0.0},
    "untied head": {"tie_word_embeddings": False},
    "attention by layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 4},
    "one layer": {"n_layer": 1},
    "all at once": {
        "activation_function": "relu", "n_inner": 20, "layer_norm_epsilon": 0.03, "tie_word_embeddings": False,
        "scale_attn_by_inverse_layer_idx": True, "n_layer": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_honoured_config_equals_the_hugging_face_model(
    tmp_path: Path, mini_prompts: PromptSet, config: dict[str, Any]
) -> None:
    model = load_model(write_random_gpt2(tmp_path, **config)).to(torch.float64)
    tokens = some_tokens(mini_prompts, 12)
    found = whole_run(model, tokens, mini_prompts)
    expected = hooked_run(model, tokens, torch.float64)
    for layer in range(model.config.n_layers):
        assert relative(found.post[layer], expected.post[layer]) < DOUBLE
    assert relative(found.residual, expected.residual) < DOUBLE
    assert relative(found.year_logits, expected.logits[:, mini_prompts.year_token_ids]) < DOUBLE
    assert relative(found.logsumexp, expected.logits.logsumexp(-1)) < DOUBLE


def test_attention_upcast_to_float32_is_what_float32_computes(tmp_path: Path, mini_prompts: PromptSet) -> None:
    model = load_model(write_random_gpt2(tmp_path, reorder_and_upcast_attn=True))
    tokens = some_tokens(mini_prompts, 12)
    expected = hooked_run(model, tokens, torch.float32)
    assert relative(whole_run(model, tokens, mini_prompts).residual, expected.residual) < SINGLE


def test_the_attention_of_stanford_crfm_s_checkpoints_in_float32(tmp_path: Path, mini_prompts: PromptSet) -> None:
    """Their config scales attention by layer, and reorders and upcasts it."""
    theirs = {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True}
    model = load_model(write_random_gpt2(tmp_path, n_layer=6, **theirs))
    tokens = some_tokens(mini_prompts, 12)
    found, expected = whole_run(model, tokens, mini_prompts), hooked_run(model, tokens, torch.float32)
    for layer in range(6):
        assert relative(found.post[layer], expected.post[layer]) < SINGLE
    assert relative(found.residual, expected.residual) < SINGLE
    assert relative(found.year_logits, expected.logits[:, mini_prompts.year_token_ids]) < SINGLE


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_function_is_transformers_own(random_small: Model, name: str) -> None:
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    config = replace(random_small.config, activation=name)
    model = replace(random_small, checkpoint=replace(random_small.checkpoint, config=config))
    torch.testing.assert_close(activate(model, x), ACT2FN[name](x), rtol=1e-12, atol=1e-12)


# --- nothing depends on how the work is cut --------------------------------------------------------


@pytest.fixture(scope="module")
def double(random_small: Model) -> Model:
    return random_small.to(torch.float64)


@pytest.mark.parametrize("shared", [0, 1, 7, 8, 12])
def test_the_number_of_shared_positions_changes_no_number(double: Model, mini_prompts: PromptSet, shared: int) -> None:
    tokens = some_tokens(mini_prompts, 20)
    reference = whole_run(double, tokens, mini_prompts)
    found = run(double, tokens, shared=shared, layers=ALL, year_token_ids=mini_prompts.year_token_ids)
    assert_same_run(found, reference)


def assert_same_run(found: EndRun, reference: EndRun) -> None:
    assert set(found.post) == set(reference.post)
    for layer in reference.post:
        assert relative(found.post[layer], reference.post[layer]) < 1e-12
    for name in ("residual", "scale", "year_logits", "logsumexp"):
        assert relative(getattr(found, name), getattr(reference, name)) < 1e-12


@pytest.mark.parametrize("block", [1, 7, 20, 256])
def test_the_block_size_changes_no_number(double: Model, mini_prompts: PromptSet, block: int) -> None:
    tokens = some_tokens(mini_prompts, 20)
    settings = {"shared": 8, "layers": (3, 11), "year_token_ids": mini_prompts.year_token_ids}
    reference = run(double, tokens, **settings)
    parts = list(run_in_blocks(double, tokens, **settings, block=block))
    assert [part.start for part, _ in parts] == list(range(0, 20, block))
    for part, found in parts:
        assert relative(found.post[3], reference.post[3][part]) < 1e-12
        assert relative(found.year_logits, reference.year_logits[part]) < 1e-12


def test_only_the_chosen_layers_are_kept(double: Model, mini_prompts: PromptSet) -> None:
    found = run(
        double, some_tokens(mini_prompts, 2), shared=8, layers=(3, 11), year_token_ids=mini_prompts.year_token_ids
    )
    assert set(found.post) == {3, 11}


# --- resuming at END -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bridge(random_small: Model) -> Any:
    return double_bridge(random_small)


@pytest.fixture(scope="module")
def kept(double: Model, mini_prompts: PromptSet) -> EndTrace:
    return trace(double, some_tokens(mini_prompts, 12), shared=mini_prompts.year_position)


@pytest.mark.parametrize("after", [0, 5, 10, 11])
def test_resuming_with_nothing_changed_gives_the_run(double: Model, kept: EndTrace, after: int) -> None:
    found = resume(double, kept, kept.after[after][None], after=after)
    assert relative(found[0], kept.after[-1]) < 1e-12


@pytest.mark.parametrize("after", [0, 7, 10])
def test_resuming_equals_the_bridge_with_a_hook_at_end(
    bridge: Any, double: Model, kept: EndTrace, mini_prompts: PromptSet, after: int
) -> None:
    generator = torch.Generator().manual_seed(after)
    changed = torch.randn(3, *kept.after[after].shape, dtype=torch.float64, generator=generator)
    found = resume(double, kept, changed, after=after)
    tokens = torch.as_tensor(some_tokens(mini_prompts, 12), dtype=torch.long)
    for variant in range(3):
        hooks = [(f"blocks.{after}.hook_out", put_at_end(changed[variant]))]
        seen: list[torch.Tensor] = []
        hooks.append(("blocks.11.hook_out", lambda x, hook, seen=seen: seen.append(x[:, -1])))
        with torch.inference_mode():
            bridge.run_with_hooks(tokens, fwd_hooks=hooks)
        assert relative(found[variant], seen[0]) < DOUBLE


def put_at_end(changed: torch.Tensor) -> Callable[..., torch.Tensor]:
    def hook(x: torch.Tensor, hook: object) -> torch.Tensor:
        x = x.clone()
        x[:, -1] = changed
        return x

    return hook


# --- wrong input -----------------------------------------------------------------------------------


def test_no_prompts_are_refused(double: Model, mini_prompts: PromptSet) -> None:
    with pytest.raises(InputError, match="no prompts"):
        whole_run(double, mini_prompts.tokens[:0], mini_prompts)


def test_prompts_longer_than_the_context_are_refused(double: Model, mini_prompts: PromptSet) -> None:
    long = np.tile(mini_prompts.tokens[:1], 6)
    with pytest.raises(InputError, match=r"prompts of 78 tokens do not fit the model's context of 64"):
        whole_run(double, long, mini_prompts)


@pytest.mark.parametrize("token", [-1, 60_000])
def test_a_token_outside_the_vocabulary_is_refused_by_id(double: Model, mini_prompts: PromptSet, token: int) -> None:
    tokens = mini_prompts.tokens[:2].copy()
    tokens[1, 3] = token
    with pytest.raises(InputError, match=rf"token {token} is outside the model's vocabulary"):
        whole_run(double, tokens, mini_prompts)


@pytest.mark.parametrize("shared", [-1, 13])
def test_shared_positions_must_leave_the_last(double: Model, mini_prompts: PromptSet, shared: int) -> None:
    with pytest.raises(InputError, match="shared positions"):
        run(double, mini_prompts.tokens[:2], shared=shared, layers=[], year_token_ids=mini_prompts.year_token_ids)


# --- prompts of different lengths ------------------------------------------------------------------


def of_three_lengths(prompts: PromptSet) -> np.ndarray:
    """Prompts, the same without their noun's words, and what is left after XX YY: shorter ones padded in front."""
    tokens = some_tokens(prompts, 9).copy()
    for start, left in ((3, 4), (6, 7)):
        tokens[start : start + 3, left] = tokens[start : start + 3, 0]
        tokens[start : start + 3, :left] = PAD
    return tokens


@pytest.mark.parametrize("shared", [0, 4, 8])
def test_a_shorter_prompt_gives_what_it_gives_alone(tmp_path: Path, mini_prompts: PromptSet, shared: int) -> None:
    model = load_model(write_random_gpt2(tmp_path, n_layer=3)).to(torch.float64)
    tokens = of_three_lengths(mini_prompts)
    found = run(model, tokens, shared=shared, layers=range(3), year_token_ids=mini_prompts.year_token_ids)
    kept = trace(model, tokens, shared=shared)
    for start in (0, 3, 6):
        rows = slice(start, start + 3)
        expected = hooked_run(model, tokens[rows, (tokens[start] == PAD).sum() :], torch.float64)
        for layer in range(3):
            assert relative(found.post[layer][rows], expected.post[layer]) < DOUBLE
        assert relative(found.residual[rows], expected.residual) < DOUBLE
        assert relative(kept.after[-1][rows], expected.residual) < DOUBLE
        assert relative(found.logsumexp[rows], expected.logits.logsumexp(-1)) < DOUBLE


def test_resuming_shorter_prompts_without_a_change_ends_where_they_ended(
    double: Model, mini_prompts: PromptSet
) -> None:
    kept = trace(double, of_three_lengths(mini_prompts), shared=4)
    for after in (0, 5, 10):
        assert relative(resume(double, kept, kept.after[after][None], after=after)[0], kept.after[-1]) < 1e-12
