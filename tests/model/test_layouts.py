"""The same model as others store it: each checkpoint gives Hugging Face's logits, or is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import rewrite
from oracle import hooked_run, relative, some_tokens
from random_gpt2 import write_random_gpt2
from safetensors.numpy import load_file
from transformers import GPT2LMHeadModel

from neurons.model.checkpoint import load_model
from neurons.model.forward import run
from neurons.model.model import Model
from neurons.task.prompt_set import PromptSet
from neurons.types import CheckpointError, InputError

SINGLE = 1e-5
"""Of the largest value: float32 sums in another order."""

Tensors = dict[str, np.ndarray]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A checkpoint as `save_pretrained` writes it."""
    return write_random_gpt2(tmp_path / "plain")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same checkpoint, to be stored in another way."""
    return write_random_gpt2(tmp_path / "other")


def assert_computes_as_hugging_face(model: Model, plain: Path, prompts: PromptSet) -> None:
    """The logits of the model are those of Hugging Face from the plain checkpoint."""
    tokens, ids = some_tokens(prompts, 12), prompts.year_token_ids
    found = run(model, tokens, shared=prompts.year_position, layers=(0, 1), year_token_ids=ids)
    expected = hooked_run(load_model(plain), tokens, torch.float32)
    assert relative(found.residual, expected.residual) < SINGLE
    assert relative(found.year_logits, expected.logits[:, ids]) < SINGLE
    assert relative(found.logsumexp, expected.logits.logsumexp(-1)) < SINGLE


def rename(change: Callable[[str], str]) -> Callable[[Tensors], None]:
    def apply(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[change(name)] = tensors.pop(name)

    return apply


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "my.own.wrapper."])
@pytest.mark.parametrize("inner", ["transformer.", ""])
def test_a_prefix_that_all_tensors_share_is_left_out(
    plain: Path, other: Path, mini_prompts: PromptSet, prefix: str, inner: str
) -> None:
    rewrite(other, rename(lambda name: prefix + inner + name.removeprefix("transformer.")))
    model = load_model(other)
    assert model.fingerprint == load_model(plain).fingerprint
    assert_computes_as_hugging_face(model, plain, mini_prompts)


def test_a_prefix_goes_from_an_untied_head_too(tmp_path: Path, mini_prompts: PromptSet) -> None:
    plain, other = (write_random_gpt2(tmp_path / name, tie_word_embeddings=False) for name in ("plain", "other"))
    rewrite(other, rename(lambda name: f"module.{name}"))
    assert_computes_as_hugging_face(load_model(other), plain, mini_prompts)


def test_a_prefix_of_some_tensors_alone_is_refused(other: Path) -> None:
    rewrite(other, rename(lambda name: name if "ln_f" in name else f"module.{name}"))
    with pytest.raises(CheckpointError, match=r"tensor wte\.weight is missing"):
        load_model(other)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_a_compiled_model_in_memory_is_its_directory(plain: Path) -> None:
    saved = load_model(plain)
    compiled = torch.compile(GPT2LMHeadModel.from_pretrained(plain, local_files_only=True))
    assert load_model(compiled, tokenizer=saved.tokenizer).fingerprint == saved.fingerprint  # type: ignore[arg-type]


def test_a_vocabulary_padded_to_a_multiple_of_64_works(tmp_path: Path, mini_prompts: PromptSet) -> None:
    plain = write_random_gpt2(tmp_path / "padded", vocab_size=1088)
    model = load_model(plain)
    assert model.tokenizer.vocab_size < model.config.d_vocab == 1088
    assert_computes_as_hugging_face(model, plain, mini_prompts)


# --- orientation and biases ------------------------------------------------------------------------


def as_linear(tensors: Tensors) -> None:
    """Matrices as nn.Linear stores them, [out, in]; embeddings and the head are the same in both."""
    for name, tensor in tensors.items():
        if ".h." in name and tensor.ndim == 2:
            tensors[name] = np.ascontiguousarray(tensor.T)


def test_weights_of_nn_linear_are_transposed(plain: Path, other: Path, mini_prompts: PromptSet) -> None:
    rewrite(other, as_linear)
    model = load_model(other)
    assert torch.equal(model.blocks[1].W_O, load_model(plain).blocks[1].W_O)
    assert model.blocks[1].W_in.is_contiguous()
    assert model.summary()["notes"] == "matrices are stored as nn.Linear has them and were transposed"
    assert_computes_as_hugging_face(model, plain, mini_prompts)


def test_square_mlps_follow_the_orientation_of_the_others(tmp_path: Path, mini_prompts: PromptSet) -> None:
    plain, other = (write_random_gpt2(tmp_path / name, n_inner=32) for name in ("plain", "other"))
    rewrite(other, as_linear)
    assert_computes_as_hugging_face(load_model(other), plain, mini_prompts)


def test_mixed_orientations_are_refused_with_the_reason(other: Path) -> None:
    def mix(tensors: Tensors) -> None:
        name = "transformer.h.1.mlp.c_fc.weight"
        tensors[name] = np.ascontiguousarray(tensors[name].T)

    rewrite(other, mix)
    with pytest.raises(CheckpointError, match=r"h\.1\.mlp\.c_fc\.weight is stored as \[out, in\] .* is ambiguous"):
        load_model(other)


def silence_biases(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".bias"):
            tensor.fill(0)


def leave_out_biases(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.endswith(".bias")]:
        del tensors[name]


def test_absent_biases_are_zero(plain: Path, other: Path, mini_prompts: PromptSet) -> None:
    rewrite(other, leave_out_biases)
    rewrite(plain, silence_biases)
    model = load_model(other)
    assert model.checkpoint.notes == ("no bias is stored: all are zero",)
    assert_computes_as_hugging_face(model, plain, mini_prompts)


def test_some_absent_biases_are_refused(other: Path) -> None:
    rewrite(other, lambda tensors: tensors.__delitem__("transformer.h.0.ln_2.bias"))
    with pytest.raises(CheckpointError, match=r"tensor h\.0\.ln_2\.bias is missing"):
        load_model(other)


def test_the_bridge_of_another_layout_is_that_of_the_model(plain: Path, other: Path, mini_prompts: PromptSet) -> None:
    rewrite(other, as_linear)
    tokens = torch.as_tensor(some_tokens(mini_prompts, 3), dtype=torch.long)
    with torch.no_grad():
        found, expected = (load_model(folder).bridge(tokens) for folder in (other, plain))
    assert relative(found, expected) < SINGLE


# --- other programs --------------------------------------------------------------------------------


def as_nanogpt(folder: Path) -> None:
    """The directory as nanoGPT leaves it: one pickle with everything, weights as nn.Linear, no bias, compiled."""
    tensors = load_file(folder / "model.safetensors")
    leave_out_biases(tensors)
    as_linear(tensors)
    state = {f"_orig_mod.{name}": torch.from_numpy(tensor) for name, tensor in tensors.items()}
    state["_orig_mod.lm_head.weight"] = state["_orig_mod.transformer.wte.weight"]
    config = json.loads((folder / "config.json").read_text())
    sizes = {name: config[name] for name in ("n_layer", "n_head", "n_embd", "vocab_size")}
    arguments = sizes | {"block_size": config["n_positions"], "bias": False, "dropout": 0.0}
    torch.save({"model": state, "model_args": arguments, "iter_num": 3}, folder / "ckpt.pt")
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()


def test_nanogpt_s_pickle_is_refused_with_lines_that_convert_it(
    tmp_path: Path, mini_prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, other = (write_random_gpt2(tmp_path / name, activation_function="gelu") for name in ("plain", "other"))
    rewrite(plain, silence_biases)
    as_nanogpt(other)
    with pytest.raises(InputError, match=r"nanoGPT's ckpt\.pt, a pickle, .* never opened: convert it") as error:
        load_model(other)
    assert "\n" not in str(error.value)
    monkeypatch.chdir(other)
    exec(str(error.value).split("`")[1], {})
    assert_computes_as_hugging_face(load_model(other), plain, mini_prompts)


def add_classifier(tensors: Tensors) -> None:
    tensors["score.weight"] = np.zeros((2, 32), np.float32)


def test_a_classifier_with_a_tied_head_loads_with_a_note(plain: Path, other: Path, mini_prompts: PromptSet) -> None:
    rewrite(other, add_classifier)
    model = load_model(other)
    assert model.checkpoint.notes == ("saved by GPT2ForSequenceClassification: the language head is the embedding",)
    assert_computes_as_hugging_face(model, plain, mini_prompts)


def test_a_classifier_that_lost_its_head_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = write_random_gpt2(tmp_path, tie_word_embeddings=False)
    rewrite(folder, add_classifier)
    rewrite(folder, lambda tensors: tensors.__delitem__("lm_head.weight"))
    with pytest.raises(CheckpointError, match="GPT2ForSequenceClassification was saved without the language head"):
        load_model(folder)


def test_a_checkpoint_as_saved_has_no_notes(plain: Path) -> None:
    assert "notes" not in load_model(plain).summary()
