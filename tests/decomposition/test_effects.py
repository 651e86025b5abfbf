"""Direct logit effects: they sum to the logit, and they are what TransformerLens computes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from average_century import at_the_average_century
from conftest import PlantedCase
from oracle import bridge_cache, relative, some_tokens
from random_gpt2 import write_random_gpt2

from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.decomposition.cells import Activations
from neurons.decomposition.effects import LogitEffects, complete, logit_effects, plain_logit_lens
from neurons.model.checkpoint import load_model
from neurons.model.forward import trace, year_logits
from neurons.model.model import Model, final_scale
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.task.years import MEASURED
from neurons.types import InputError, NeuronId


@pytest.fixture(scope="module")
def effects(mini_cache: Cache) -> LogitEffects:
    return logit_effects(mini_cache)


# --- the identity ----------------------------------------------------------------------------------


def written_at_end(model: Model, tokens: np.ndarray, shared: int) -> dict[str, np.ndarray]:
    """Everything that is ever added to the residual at END, writer by writer [P, K, d]."""
    kept = trace(model, tokens, shared=shared)
    heads, neurons = [], []
    for layer, block in enumerate(model.blocks):
        W_O = block.W_O.unflatten(0, (model.config.n_heads, model.config.d_head))
        heads.append(torch.einsum("phi,hid->phd", kept.heads[layer], W_O))
        neurons.append(kept.post[layer][..., None] * block.W_out)
    biases = torch.stack([bias for block in model.blocks for bias in (block.b_O, block.b_out)])
    parts = {
        "embedding": kept.embedding[:, None],
        "heads": torch.cat(heads, 1),
        "neurons": torch.cat(neurons, 1),
        "biases": biases.expand(len(tokens), -1, -1),
    }
    return {name: part.numpy() for name, part in parts.items()}


def identity_gap(model: Model, prompts: PromptSet, count: int) -> float:
    """How far the parts' sum is from the year logits, relative to the largest logit."""
    tokens = some_tokens(prompts, count)
    ids = torch.as_tensor(prompts.year_token_ids, dtype=torch.long)
    residual = trace(model, tokens, shared=prompts.year_position).after[-1]
    split = complete(
        written_at_end(model, tokens, prompts.year_position),
        final_scale(model, residual).numpy(),
        model.year_readout(ids).numpy(),
        (model.W_U[ids] @ model.ln_final.bias).numpy(),
    )
    return relative(sum(split.values()), year_logits(model, residual, ids))


def test_all_parts_sum_to_the_year_logits_in_double(tmp_path: Path, mini_prompts: PromptSet) -> None:
    model = load_model(write_random_gpt2(tmp_path)).to(torch.float64)
    assert identity_gap(model, mini_prompts, 20) < 1e-10


@pytest.mark.parametrize(
    "config", [{"tie_word_embeddings": False, "n_inner": 20}, {"layer_norm_epsilon": 0.1}, {"n_layer": 1}]
)
def test_the_sum_holds_in_other_configs(tmp_path: Path, mini_prompts: PromptSet, config: dict[str, Any]) -> None:
    model = load_model(write_random_gpt2(tmp_path, **config)).to(torch.float64)
    assert identity_gap(model, mini_prompts, 20) < 1e-10


def test_all_parts_sum_to_the_year_logits_on_mini(mini_model: Model, mini_prompts: PromptSet) -> None:
    """In float32, over 3,072 neurons and 48 heads: measured 6e-7."""
    assert identity_gap(mini_model, mini_prompts, 20) < 5e-6


def test_all_parts_sum_to_the_year_logits_in_gpt2_s_shape(gpt2_shaped: Model) -> None:
    """In float32, over 36,864 neurons and 144 heads: measured 4e-6."""
    assert identity_gap(gpt2_shaped, year_spans(gpt2_shaped.tokenizer), 2) < 2e-5


def test_a_part_counted_twice_is_noticed(tmp_path: Path, mini_prompts: PromptSet) -> None:
    """The identity can fail: with one bias taken twice the sum is off by far more than any tolerance."""
    model = load_model(write_random_gpt2(tmp_path)).to(torch.float64)
    tokens = some_tokens(mini_prompts, 3)
    ids = torch.as_tensor(mini_prompts.year_token_ids, dtype=torch.long)
    parts = written_at_end(model, tokens, 8)
    parts["biases"] = np.concatenate([parts["biases"], parts["biases"][:, -1:]], 1)
    residual = trace(model, tokens, shared=8).after[-1]
    norm_bias = (model.W_U[ids] @ model.ln_final.bias).numpy()
    split = complete(parts, final_scale(model, residual).numpy(), model.year_readout(ids).numpy(), norm_bias)
    assert relative(sum(split.values()), year_logits(model, residual, ids)) > 1e-3


# --- TransformerLens -------------------------------------------------------------------------------


def lens_neuron_effects(model: Model, prompts: PromptSet, rows: np.ndarray) -> np.ndarray:
    """TransformerLens's own effects [layers, P, N, 100]; the gain is folded into the directions."""
    ids = torch.as_tensor(prompts.year_token_ids, dtype=torch.long)
    directions = (model.W_U[ids] * model.ln_final.gain).T
    _, kept = bridge_cache(model.bridge, prompts.tokens[rows])
    with torch.inference_mode():
        stack = kept.stack_neuron_results(
            model.config.n_layers, pos_slice=-1, apply_ln=True, project_output_onto=directions
        )
    return stack.unflatten(0, (model.config.n_layers, -1)).transpose(1, 2).numpy()


def assert_effects_equal_transformer_lens(model: Model, cache: Cache, prompts: PromptSet, rows: np.ndarray) -> None:
    effects = logit_effects(cache, years=[50])
    expected = lens_neuron_effects(model, prompts, rows)
    for layer in cache.layers:
        found = effects.activation(layer)[rows][..., None] * effects.readout(layer)
        assert relative(found, expected[layer]) < 1e-5


def test_effects_equal_transformer_lens_s_on_mini(
    mini_model: Model, mini_cache: Cache, mini_prompts: PromptSet
) -> None:
    rows = np.linspace(0, len(mini_prompts) - 1, 12).astype(int)
    assert_effects_equal_transformer_lens(mini_model, mini_cache, mini_prompts, rows)


def test_effects_equal_transformer_lens_s_in_gpt2_s_shape(gpt2_shaped: Model, tmp_path: Path) -> None:
    prompts = year_spans(gpt2_shaped.tokenizer, nouns=["war"], centuries=[17])
    cache = cache_activations(gpt2_shaped, prompts, cache_dir=tmp_path)
    assert_effects_equal_transformer_lens(gpt2_shaped, cache, prompts, np.array([10, 70]))


def test_effects_equal_transformer_lens_s_on_a_planted_circuit(
    planted_case: Callable[[int], PlantedCase],
) -> None:
    """Untied head, uneven gain: what a lens that forgets one of them would get wrong."""
    case = planted_case(0)
    rows = np.linspace(0, len(case.prompts) - 1, 6).astype(int)
    assert_effects_equal_transformer_lens(case.model, case.cache, case.prompts, rows)


# --- what a LogitEffects says ----------------------------------------------------------------------


def test_the_map_is_the_mean_effect_of_each_start_year(effects: LogitEffects, mini_cache: Cache) -> None:
    post, readout = mini_cache.post(9)[:, 12].astype(float), mini_cache.readout(9)[12].astype(float)
    found = effects.map("L9N12")
    assert found.shape == (97, 100)
    for row in (0, 30, 96):
        prompts = mini_cache.start_year == MEASURED[row]
        each = (post / mini_cache.scale)[prompts][:, None] * readout
        np.testing.assert_allclose(found[row], each.mean(0), rtol=1e-4, atol=1e-7)


def test_the_effect_of_one_start_year_is_the_map_s_row(effects: LogitEffects) -> None:
    np.testing.assert_allclose(effects.of("L9N12", start_year=32), effects.map("L9N12")[30], rtol=1e-5, atol=1e-8)


def test_an_effect_is_known_for_start_years_that_are_not_measured(effects: LogitEffects) -> None:
    assert effects.of("L9N12", start_year=99).shape == (100,)


def test_a_neuron_is_named_by_text_or_by_id(effects: LogitEffects) -> None:
    assert np.array_equal(effects.map("L9N12"), effects.map(NeuronId(9, 12)))


def test_the_contrast_is_later_years_minus_the_others(effects: LogitEffects) -> None:
    found, whole = effects.contrast("L10N3"), effects.map_array("L10N3")
    for row, year in enumerate(MEASURED):
        expected = whole[row, year + 1 :].mean() - whole[row, : year + 1].mean()
        assert found[row] == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_a_layer_s_map_is_the_average_of_its_neurons_sum(effects: LogitEffects, mini_cache: Cache) -> None:
    each = (mini_cache.post(11).astype(float) / mini_cache.scale[:, None]) @ mini_cache.readout(11)
    assert relative(effects.layer_map(11), at_the_average_century(each, mini_cache, MEASURED)) < 1e-5


def test_a_layer_s_contrasts_are_those_of_its_neurons(effects: LogitEffects) -> None:
    contrasts = effects.layer_contrast(11)
    for n in (0, 100, 255):
        np.testing.assert_allclose(contrasts[:, n], effects.contrast(NeuronId(11, n)), rtol=1e-4, atol=1e-7)


def test_an_mlp_s_neurons_and_bias_are_its_whole_contribution(
    mini_model: Model, effects: LogitEffects, mini_prompts: PromptSet
) -> None:
    """Independent of the cache: what the MLP wrote, mid to after, through the frozen final LayerNorm."""
    rows = np.flatnonzero(mini_prompts.start_year == 32)
    model = mini_model.to(torch.float64)
    kept = trace(model, mini_prompts.tokens[rows], shared=mini_prompts.year_position)
    ids = torch.as_tensor(mini_prompts.year_token_ids, dtype=torch.long)
    for layer in (8, 10):
        wrote = (kept.after[layer] - kept.mid[layer]) / final_scale(model, kept.after[-1])[:, None]
        expected = (wrote @ model.year_readout(ids)).mean(0)
        found = effects.layer_map(layer)[30] + effects.bias_map(layer)[30]
        assert relative(found, expected) < 1e-5


def test_the_plain_lens_is_the_paper_s(mini_model: Model, mini_cache: Cache, mini_prompts: PromptSet) -> None:
    """act[n] * (W_out[n] . W_U[year]), no LayerNorm anywhere; another quantity than the effect."""
    lens = plain_logit_lens(mini_cache)
    rows = mini_cache.start_year == 32
    W = mini_model.blocks[9].W_out[12] @ mini_model.W_U[torch.as_tensor(mini_prompts.year_token_ids).long()].T
    expected = mini_cache.post(9)[rows, 12].mean() * W.numpy()
    assert relative(lens.of("L9N12", start_year=32), expected) < 1e-5
    assert relative(logit_effects(mini_cache).of("L9N12", start_year=32), expected) > 0.01


def test_the_plain_lens_has_no_bias_term(mini_cache: Cache) -> None:
    with pytest.raises(InputError, match="the plain lens has no bias term"):
        plain_logit_lens(mini_cache).bias_map(9)


def test_effects_need_no_model(mini_cache: Cache) -> None:
    program = (
        "import sys, neurons\n"
        f"effects = neurons.logit_effects(neurons.open_cache({str(mini_cache.path)!r}))\n"
        "effects.of('L9N12', start_year=32)\n"
        "neurons.rank(effects).record(0)\n"
        "loaded = {'torch', 'transformers', 'transformer_lens'} & set(sys.modules)\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- one pass over the activations -----------------------------------------------------------------


@pytest.mark.parametrize("lens", [logit_effects, plain_logit_lens])
def test_cells_equal_a_direct_loop(lens: Callable[..., LogitEffects], random_cache: Cache) -> None:
    effects, layer = lens(random_cache, years=range(10, 60)), random_cache.layers[-1]
    found, activation = effects.cells(layer, slice(3, 40)), effects.activation(layer, slice(3, 40)).astype(float)
    for i, century in enumerate(np.unique(random_cache.century)):
        for j, start in enumerate(range(10, 60)):
            rows = (random_cache.century == century) & (random_cache.start_year == start)
            assert found.held[i, j] == rows.any()
            assert effects.counts[i, j] == rows.sum()
            if rows.any():
                np.testing.assert_allclose(found.value[i, j], activation[rows].mean(0), rtol=1e-5, atol=1e-5)


def test_mean_and_variance_are_those_of_all_prompts(mini_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurons.cache.format.BLOCK_NUMBERS", 64 * 512)
    assert len(list(mini_cache.row_blocks(1))) > 10
    found, post = Activations(mini_cache).layer(10), mini_cache.post(10).astype(float)
    np.testing.assert_allclose(found.mean, post.mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.variance, post.var(0), rtol=1e-10, atol=1e-14)


def test_neurons_read_by_themselves_have_the_cells_of_their_layer(mini_cache: Cache) -> None:
    alone, whole = logit_effects(mini_cache), logit_effects(mini_cache)
    one = alone.cells(9, slice(12, 13)).value
    np.testing.assert_array_equal(one, whole.cells(9).value[..., 12:13])
    np.testing.assert_array_equal(one, whole.cells(9, slice(12, 13)).value)


def test_a_map_is_the_same_however_many_prompts_are_read_at_a_time(
    mini_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = mini_cache.layers[0]
    whole = logit_effects(mini_cache).layer_map(layer)
    monkeypatch.setattr("neurons.cache.format.BLOCK_NUMBERS", 64 * 512)
    np.testing.assert_array_equal(logit_effects(mini_cache).layer_map(layer), whole)


def test_the_effect_at_a_start_year_is_its_row_of_the_map(effects: LogitEffects) -> None:
    np.testing.assert_allclose(effects.of("L9N12", start_year=32), effects.map("L9N12")[30], rtol=1e-12)


def test_a_start_year_that_is_not_measured_has_an_effect(mini_cache: Cache) -> None:
    few = logit_effects(mini_cache, years=[20, 50])
    values = few.activation(9, slice(12, 13))
    expected = at_the_average_century(values, mini_cache, (20, 50, 99))[2] * few.readout(9)[12]
    np.testing.assert_allclose(few.of("L9N12", start_year=99), expected, rtol=1e-5)


# --- wrong input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        ("foo", "invalid neuron 'foo': write layer and index, like L9N12"),
        ("L99N1", "L99N1 is outside the cached layers 8-11: choose a neuron there, or layers with it"),
        ("L3N1", "L3N1 is outside the cached layers 8-11"),
        ("L9N99999", "L9N99999 does not exist: layer 9 has neurons 0-255"),
        ("L9N256", "L9N256 does not exist"),
    ],
)
def test_a_neuron_that_is_not_there_is_refused_by_name(effects: LogitEffects, neuron: str, message: str) -> None:
    for ask in (effects.map, effects.contrast, lambda name: effects.of(name, start_year=32)):
        with pytest.raises(InputError) as error:
            ask(neuron)
        assert str(error.value).startswith(message)


@pytest.mark.parametrize("layer", [7, 12, -1])
def test_a_layer_outside_the_cache_is_refused_with_its_layers(effects: LogitEffects, layer: int) -> None:
    with pytest.raises(InputError, match=rf"^layer {layer} is not in this cache: it holds layers 8-11$"):
        effects.tuning(layer)


@pytest.mark.parametrize("year", [0, 100, -5])
def test_a_start_year_without_prompts_is_refused(effects: LogitEffects, year: int) -> None:
    with pytest.raises(InputError, match=f"start year {year} has no prompt in this cache: it holds 01-99"):
        effects.of("L9N12", start_year=year)
