"""Finding a checkpoint: what each kind of name means, and what is refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import as_older_checkpoints, put_snapshot, rewrite, shard
from random_gpt2 import write_random_gpt2

from neurons.model.config import ModelConfig, read_config
from neurons.model.files import find_checkpoint
from neurons.types import CheckpointError, InputError, NeuronsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good checkpoint, to be damaged."""
    return write_random_gpt2(tmp_path / "tiny", n_positions=16)


def configure(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(name: object, kind: type[NeuronsError]) -> str:
    """The one line with which a name is refused."""
    with pytest.raises(NeuronsError) as error:
        find_checkpoint(name)  # type: ignore[arg-type]
    assert type(error.value) is kind
    line = str(error.value)
    assert line
    assert "\n" not in line
    return line


# --- names -----------------------------------------------------------------------------------------


def test_mini_is_bundled() -> None:
    found = find_checkpoint("mini")
    assert found.name == "mini"
    assert (found.config.n_layers, found.config.d_model, found.config.n_heads, found.config.d_mlp) == (12, 64, 4, 256)
    assert sum(file.stat().st_size for file in found.folder.iterdir() if file.is_file()) <= 4e6


def test_a_directory_is_known_by_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_checkpoint(folder).name == "tiny"
    assert find_checkpoint(f"{folder}/").name == "tiny"
    monkeypatch.chdir(folder)
    assert find_checkpoint(".").name == "tiny"


def test_a_directory_is_found_from_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_checkpoint("~/tiny").name == "tiny"
    assert find_checkpoint("~/tiny/").name == "tiny"


def test_the_config_is_read_as_it_is_written(tmp_path: Path) -> None:
    fields = {"n_inner": 48, "layer_norm_epsilon": 1e-3, "activation_function": "relu", "tie_word_embeddings": False}
    folder = write_random_gpt2(tmp_path, scale_attn_by_inverse_layer_idx=True, **fields)
    found = read_config(folder)
    expected = {"n_layers": 2, "n_heads": 4, "d_model": 32, "d_mlp": 48, "n_ctx": 64, "activation": "relu"}
    expected |= {"layer_norm_eps": 1e-3, "scale_attn_by_inverse_layer_idx": True, "tied": False}
    assert {name: getattr(found, name) for name in expected} == expected


def test_a_bare_config_means_gpt2_small(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    found = read_config(tmp_path)
    assert found == ModelConfig(
        n_layers=12, n_heads=12, d_model=768, d_mlp=3072, d_vocab=50257, n_ctx=1024, activation="gelu_new",
        layer_norm_eps=1e-5, scale_attn_by_inverse_layer_idx=False, tied=True,
    )  # fmt: skip
    assert found.d_head == 64
    assert found.default_layers == (8, 9, 10, 11)


@pytest.mark.parametrize(
    ("n_layer", "layers"), [(1, (0,)), (2, (1,)), (6, (4, 5)), (24, tuple(range(16, 24))), (12, (8, 9, 10, 11))]
)
def test_the_default_layers_are_the_last_third(tmp_path: Path, n_layer: int, layers: tuple[int, ...]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": n_layer}))
    assert read_config(tmp_path).default_layers == layers


def test_layers_outside_the_model_are_refused_with_its_layers(folder: Path) -> None:
    config = read_config(folder)
    assert config.check_layers((1, 0, 1)) == (0, 1)
    with pytest.raises(InputError, match=r"^layer 8 is not in this model: it has layers 0-1$"):
        config.check_layers((1, 8, 9))
    with pytest.raises(InputError, match="no layers chosen"):
        config.check_layers(())


# --- fingerprint -----------------------------------------------------------------------------------


def test_the_fingerprint_does_not_depend_on_the_place(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    assert find_checkpoint(other).fingerprint == find_checkpoint(folder).fingerprint


def test_one_changed_weight_changes_the_fingerprint(folder: Path) -> None:
    before = find_checkpoint(folder).fingerprint

    def nudge(tensors: dict[str, np.ndarray]) -> None:
        tensors["transformer.h.1.mlp.c_proj.weight"][3, 4] += 1e-6

    rewrite(folder, nudge)
    assert find_checkpoint(folder).fingerprint != before


def test_unused_tensors_and_the_prefix_do_not_change_the_fingerprint(folder: Path) -> None:
    before = find_checkpoint(folder).fingerprint
    rewrite(folder, as_older_checkpoints)
    assert find_checkpoint(folder).fingerprint == before


def test_a_sharded_checkpoint_has_the_fingerprint_of_the_single_file(folder: Path) -> None:
    before = find_checkpoint(folder).fingerprint
    shard(folder)
    assert find_checkpoint(folder).fingerprint == before


# --- the hub's cache -------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache; the client reads the constant each time it is called."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.mark.parametrize("stored", ["gpt2", "openai-community/gpt2"])
@pytest.mark.parametrize("asked", ["gpt2", "openai-community/gpt2"])
def test_both_names_of_gpt2_find_each_other_s_snapshot(hub: Path, stored: str, asked: str) -> None:
    folder = put_snapshot(hub, stored)
    found = find_checkpoint(asked)
    assert found.folder == folder
    assert found.name == "gpt2"
    assert len(found.tensors) == 2 * 12 + 4


def test_any_fetched_gpt2_is_found(hub: Path) -> None:
    folder = put_snapshot(hub, "someone/my-gpt2")
    assert find_checkpoint("someone/my-gpt2").folder == folder


def test_a_directory_of_that_name_comes_before_the_hub(hub: Path, tmp_path: Path) -> None:
    put_snapshot(hub, "gpt2")
    write_random_gpt2(tmp_path / "gpt2")
    assert find_checkpoint("gpt2").folder == Path("gpt2")


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl", "openai-community/gpt2-medium", "distilgpt2", "someone/gpt2"])
def test_offline_with_nothing_fetched_says_three_ways_out(hub: Path, name: str) -> None:
    line = refusal(name, CheckpointError)
    assert line.startswith(f"{name} is not in the local hub cache and cannot be fetched now")
    repo = name if "/" in name else f"{'distilbert' if name == 'distilgpt2' else 'openai-community'}/{name}"
    assert f"`hf download {repo}`" in line
    assert "checkpoint directory" in line
    assert "mini works now" in line
    assert not hub.exists()


def test_a_snapshot_without_weights_counts_as_nothing_fetched(hub: Path) -> None:
    (put_snapshot(hub, "gpt2") / "model.safetensors").unlink()
    assert "hf download" in refusal("gpt2", CheckpointError)


# --- wrong input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nonesuch", "gpt3", "with space", "a..b"])
def test_an_unknown_model_is_refused_with_what_is_known(hub: Path, name: str) -> None:
    line = refusal(name, InputError)
    assert line.startswith(f"unknown model {name!r}: give mini, a GPT-2 name of the hub (gpt2, ")
    assert "config.json and model.safetensors" in line


@pytest.mark.parametrize(
    "name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "~nobody-here/x", "a/b/c", "", " ", "x" * 5000]
)
def test_a_directory_that_is_not_there_is_refused(hub: Path, name: str) -> None:
    assert refusal(name, InputError) == (
        f"{name!r} is no directory: give mini, a GPT-2 name of the hub, or a checkpoint directory"
    )


def test_a_file_is_refused_with_what_is_wanted(folder: Path) -> None:
    file = folder / "model.safetensors"
    assert "is a file: give the directory that holds config.json and model.safetensors" in refusal(file, InputError)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    line = refusal(tmp_path, InputError)
    assert line == f"{tmp_path} holds no checkpoint: config.json is missing (save_pretrained writes it)"


def test_a_directory_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refusal(folder, InputError) == (
        f"{folder} holds no checkpoint: model.safetensors is missing (save_pretrained writes it)"
    )


def test_a_pickle_is_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    line = refusal(folder, InputError)
    assert "pytorch_model.bin is a pickle, which can run code and is never opened" in line
    assert "save_pretrained()" in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:7],
        lambda whole: whole[:100],
        lambda whole: whole[:-4],
        lambda whole: whole + b"more",
        lambda whole: b"\xff" * 8 + whole[8:],
        lambda whole: whole[:8] + b"}" * 40 + whole[48:],
        lambda whole: bytes(len(whole)),
    ],
    ids=["empty", "no header", "cut header", "cut data", "too long", "huge header", "no JSON", "zeros"],
)
def test_damaged_safetensors_are_refused_by_file(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    line = refusal(folder, CheckpointError)
    assert line.startswith(f"{file} is damaged (")
    assert line.endswith("fetch or save it again")


def test_a_missing_tensor_is_refused_by_name(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("transformer.h.1.attn.c_attn.bias"))  # type: ignore[arg-type,return-value]
    assert "tensor h.1.attn.c_attn.bias is missing" in refusal(folder, CheckpointError)


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(folder: Path) -> None:
    configure(folder, n_inner=100)
    assert "tensor h.0.mlp.c_fc.weight has shape (32, 128), config.json asks for (32, 100)" in refusal(
        folder, CheckpointError
    )


def test_whole_numbers_as_weights_are_refused(folder: Path) -> None:
    def round_off(tensors: dict[str, np.ndarray]) -> None:
        tensors["transformer.ln_f.bias"] = tensors["transformer.ln_f.bias"].astype(np.int8)

    rewrite(folder, round_off)
    assert "tensor ln_f.bias holds I8, not floating-point numbers" in refusal(folder, CheckpointError)


@pytest.mark.parametrize(
    "index", ["{", "{}", '{"weight_map": []}', '{"weight_map": {"a": "../x"}}', '{"weight_map": {"a": "gone"}}',
              '{"weight_map": {"a": 3}}', '{"weight_map": {"a": ["b"]}}'],
)  # fmt: skip
def test_a_damaged_index_is_refused(folder: Path, index: str) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(index)
    assert "fetch" in refusal(folder, CheckpointError)


@pytest.mark.parametrize(
    ("text", "kind"), [("{", CheckpointError), ("[]", CheckpointError), ('{"model_type": "llama"}', InputError),
                       ("{}", InputError)]
)  # fmt: skip
def test_a_config_that_is_no_gpt2_is_refused(folder: Path, text: str, kind: type[NeuronsError]) -> None:
    (folder / "config.json").write_text(text)
    assert str(folder) in refusal(folder, kind)


def test_another_architecture_is_named(folder: Path) -> None:
    configure(folder, model_type="llama")
    assert (
        refusal(folder, InputError)
        == f"{folder / 'config.json'} describes a 'llama' model: only GPT-2's architecture is supported"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("scale_attn_weights", False), ("add_cross_attention", True), ("quantization_config", {"bits": 8})],
)
def test_a_field_that_is_not_honoured_is_refused_by_name(folder: Path, field: str, value: object) -> None:
    configure(folder, **{field: value})
    assert f"sets {field} = {value!r}, which is not supported" in refusal(folder, InputError)


@pytest.mark.parametrize("field", ["scale_attn_weights", "is_decoder", "reorder_and_upcast_attn"])
def test_a_field_that_changes_no_number_is_accepted(folder: Path, field: str) -> None:
    configure(folder, **{field: True})
    assert find_checkpoint(folder).config.n_layers == 2


def test_an_unknown_activation_function_is_refused_with_those_known(folder: Path) -> None:
    configure(folder, activation_function="gelu_10")
    assert "activation_function = 'gelu_10', which is not supported: use one of gelu_new, " in refusal(
        folder, InputError
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_layer", 0), ("n_layer", "2"), ("n_layer", None), ("n_head", 5), ("n_embd", True), ("n_inner", -1),
     ("vocab_size", 10**12), ("layer_norm_epsilon", "small"), ("layer_norm_epsilon", -1),
     ("tie_word_embeddings", "no"), ("scale_attn_by_inverse_layer_idx", None)],
)  # fmt: skip
def test_a_field_that_makes_no_sense_is_refused_by_name(folder: Path, field: str, value: object) -> None:
    configure(folder, **{field: value})
    assert field in refusal(folder, CheckpointError)


def test_a_refusal_writes_nothing(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")
    before = sorted(path.name for path in folder.iterdir())
    refusal(folder, CheckpointError)
    assert sorted(path.name for path in folder.iterdir()) == before
