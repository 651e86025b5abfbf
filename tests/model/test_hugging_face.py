"""A model in memory loads as its directory does, and is refused as clearly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_gpt2 import write_random_gpt2
from transformers import GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from neurons.cache.build import cache_activations
from neurons.model.checkpoint import load_model
from neurons.model.forward import run
from neurons.model.hugging_face import boot_bridge
from neurons.model.model import Model
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import CheckpointError, InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gpt2(tmp_path_factory.mktemp("memory") / "tiny")


@pytest.fixture(scope="module")
def saved(folder: Path) -> Model:
    return load_model(folder)


@pytest.fixture
def hf_model(folder: Path) -> Any:
    return GPT2LMHeadModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def prompts(saved: Model) -> PromptSet:
    return year_spans(saved.tokenizer, nouns=2, centuries="draw")


def test_a_hugging_face_model_is_its_directory(hf_model: Any, saved: Model) -> None:
    model = load_model(hf_model, tokenizer=saved.tokenizer)
    assert (model.config, model.fingerprint, model.name) == (saved.config, saved.fingerprint, "tiny")
    assert torch.equal(model.blocks[1].W_out, saved.blocks[1].W_out)
    assert torch.equal(model.W_U, saved.W_U)


def test_its_cache_is_that_of_its_directory(hf_model: Any, saved: Model, prompts: PromptSet, tmp_path: Path) -> None:
    ours = cache_activations(load_model(hf_model, tokenizer=saved.tokenizer), prompts, cache_dir=tmp_path)
    theirs = cache_activations(saved, prompts, cache_dir=tmp_path)
    assert ours.path == theirs.path


def test_its_logits_are_those_of_the_model_given(hf_model: Any, saved: Model, prompts: PromptSet) -> None:
    """Tolerance: float32 noise of two orders of summation, as for the TransformerBridge oracle."""
    tokens = torch.as_tensor(prompts.tokens[:20], dtype=torch.long)
    with torch.no_grad():
        expected = hf_model(tokens).logits[:, -1, torch.as_tensor(prompts.year_token_ids, dtype=torch.long)]
    model, ids = load_model(hf_model, tokenizer=saved.tokenizer), prompts.year_token_ids
    found = run(model, prompts.tokens[:20], shared=prompts.year_position, layers=[1], year_token_ids=ids)
    np.testing.assert_allclose(found.year_logits, expected, atol=1e-5 * float(expected.abs().max()))


def test_a_bridge_brings_its_own_tokenizer(saved: Model) -> None:
    model = load_model(boot_bridge(saved.checkpoint), name="mine")
    assert (model.fingerprint, model.name) == (saved.fingerprint, "mine")
    assert model.tokenizer.encode(" 1732") == saved.tokenizer.encode(" 1732")


def test_a_fast_tokenizer_of_hugging_face_will_do(hf_model: Any, saved: Model, prompts: PromptSet) -> None:
    fast = PreTrainedTokenizerFast(tokenizer_object=saved.tokenizer.backend, bos_token="<|endoftext|>")
    model = load_model(hf_model, tokenizer=fast)
    assert year_spans(model.tokenizer, nouns=2, centuries="draw").digest == prompts.digest


def test_the_bridge_of_a_model_in_memory_has_its_weights(hf_model: Any, saved: Model, prompts: PromptSet) -> None:
    bridge = load_model(hf_model, tokenizer=saved.tokenizer).bridge
    tokens = torch.as_tensor(prompts.tokens[:3], dtype=torch.long)
    with torch.no_grad():
        torch.testing.assert_close(bridge(tokens), hf_model(tokens).logits, rtol=1e-4, atol=1e-5)


def test_folding_the_bridge_of_a_model_in_memory_leaves_the_model(hf_model: Any, saved: Model) -> None:
    model = load_model(hf_model, tokenizer=saved.tokenizer)
    model.bridge.enable_compatibility_mode(disable_warnings=True)
    assert torch.equal(model.blocks[1].W_out, saved.blocks[1].W_out)
    assert torch.equal(model.W_U, saved.W_U)
    assert load_model(model.checkpoint).fingerprint == saved.fingerprint


def test_training_that_goes_on_changes_nothing(hf_model: Any, saved: Model) -> None:
    model = load_model(hf_model, tokenizer=saved.tokenizer)
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter += 1
    assert torch.equal(model.blocks[0].W_in, saved.blocks[0].W_in)
    assert model.fingerprint == saved.fingerprint
    assert load_model(hf_model, tokenizer=saved.tokenizer).fingerprint != saved.fingerprint


def test_half_precision_is_read_as_float32(hf_model: Any, saved: Model) -> None:
    model = load_model(hf_model.half(), tokenizer=saved.tokenizer)
    assert model.W_E.dtype == torch.float32
    assert torch.equal(model.W_E, saved.W_E.half().float())
    assert model.fingerprint != saved.fingerprint


def test_other_processes_are_refused_in_one_line(
    hf_model: Any, saved: Model, prompts: PromptSet, tmp_path: Path
) -> None:
    model = load_model(hf_model, tokenizer=saved.tokenizer)
    with pytest.raises(InputError, match="in memory alone: save_pretrained"):
        cache_activations(model, prompts, cache_dir=tmp_path, jobs=2)


def test_a_folded_bridge_is_refused(saved: Model) -> None:
    bridge = boot_bridge(saved.checkpoint)
    bridge.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(InputError, match="folds LayerNorm into the weights"):
        load_model(bridge)


def test_a_missing_tokenizer_is_asked_for(hf_model: Any) -> None:
    with pytest.raises(InputError, match="needs its tokenizer"):
        load_model(hf_model)


def test_what_is_no_model_is_named(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match="invalid model of type dict"):
        load_model({"wte": 1}, tokenizer=mini_tokenizer)  # type: ignore[arg-type]


def test_another_architecture_in_memory_is_refused(saved: Model) -> None:
    config = GPTNeoXConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    with pytest.raises(InputError, match="model-in-memory describes a 'gpt_neox'"):
        load_model(GPTNeoXForCausalLM(config), tokenizer=saved.tokenizer)


def test_a_headless_model_that_needs_its_head_is_refused(hf_model: Any, saved: Model) -> None:
    hf_model.config.tie_word_embeddings = False
    with pytest.raises(CheckpointError, match=r"no tensor lm_head\.weight: give a GPT2LMHeadModel"):
        load_model(hf_model.transformer, tokenizer=saved.tokenizer)


def test_a_directory_has_a_name_and_a_tokenizer_of_its_own(folder: Path) -> None:
    with pytest.raises(InputError, match="go with a model in memory"):
        load_model(folder, name="other")
