"""The cache file: it holds what the model says, is written whole or not at all, and is reused by its key."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from oracle import relative
from random_gpt2 import write_random_gpt2
from sealed import edited

import neurons.cache.compute as compute
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache, cache_key, cache_path, format_layers, open_cache, verify_cache
from neurons.decomposition.effects import logit_effects
from neurons.model.checkpoint import load_model
from neurons.model.files import find_checkpoint
from neurons.model.forward import EndRun, run
from neurons.model.model import Model
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import CacheError, InputError

LAYERS = (0, 2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Three layers, an untied head, an odd MLP width, two dimensions with no final gain."""
    folder = write_random_gpt2(
        tmp_path_factory.mktemp("tiny") / "tiny", n_layer=3, n_inner=37, tie_word_embeddings=False
    )
    model = load_model(folder)
    model.ln_final.gain[[3, 30]] = 0
    return model


@pytest.fixture(scope="module")
def prompts(mini_tokenizer: Gpt2Tokenizer) -> PromptSet:
    return year_spans(mini_tokenizer, nouns=["war", "siege", "reign"], centuries="draw", seed=1)


@pytest.fixture(scope="module")
def cache(tiny: Model, prompts: PromptSet, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def copy(cache: Cache, tmp_path: Path) -> Path:
    """The same file, to be damaged."""
    path = tmp_path / cache.path.name
    path.write_bytes(cache.path.read_bytes())
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is written is what the model says --------------------------------------------------------


def test_every_number_is_the_run_s_own(tiny: Model, prompts: PromptSet, cache: Cache) -> None:
    expected = run(tiny, prompts.tokens, shared=0, layers=LAYERS, year_token_ids=prompts.year_token_ids)
    for layer in LAYERS:
        assert relative(cache.post(layer), expected.post[layer]) < 1e-5
    assert relative(cache.scale, expected.scale) < 1e-5
    assert relative(cache.year_logits, expected.year_logits) < 1e-5
    assert relative(cache.logsumexp, expected.logsumexp) < 1e-5


def test_the_counterfactuals_are_run_too(tiny: Model, prompts: PromptSet, cache: Cache) -> None:
    tokens = prompts.counterfactual_tokens
    expected = run(tiny, tokens, shared=0, layers=LAYERS, year_token_ids=prompts.year_token_ids)
    assert relative(cache.read("counterfactual/year_logits"), expected.year_logits) < 1e-5
    assert relative(cache.read("counterfactual/logsumexp"), expected.logsumexp) < 1e-5


def test_a_prompt_of_year_01_is_its_own_counterfactual(cache: Cache) -> None:
    rows = np.flatnonzero(cache.start_year == 1)
    assert len(rows) == 3
    own = cache.read("counterfactual/year_logits")[cache.counterfactual[rows]]
    assert relative(cache.year_logits[rows], own) < 1e-5


def test_prompts_come_back_as_they_were(prompts: PromptSet, cache: Cache) -> None:
    assert len(cache) == len(prompts)
    assert cache.noun == prompts.noun
    assert cache.missing == prompts.missing
    assert cache.template == prompts.template.text
    for name in ("start_year", "century", "counterfactual"):
        assert np.array_equal(getattr(cache, name), getattr(prompts, name))
    assert np.array_equal(cache.read("prompts/tokens"), prompts.tokens)
    assert np.array_equal(cache.read("counterfactual/tokens"), prompts.counterfactual_tokens)
    assert np.array_equal(cache.read("years/token_ids"), prompts.year_token_ids)


def test_readouts_equal_a_direct_computation_in_double(tiny: Model, prompts: PromptSet, cache: Cache) -> None:
    """Written out: centre w_out, times the gain, through the unembedding of the years."""
    W_U = tiny.W_U.numpy().astype(float)[prompts.year_token_ids]
    gain = tiny.ln_final.gain.numpy().astype(float)
    for layer in LAYERS:
        W_out, b_out = (getattr(tiny.blocks[layer], name).numpy().astype(float) for name in ("W_out", "b_out"))
        centred = W_out - W_out.mean(1, keepdims=True)
        assert relative(cache.readout(layer), (centred * gain) @ W_U.T) < 1e-6
        assert relative(cache.read(f"readout/{layer}_bias"), ((b_out - b_out.mean()) * gain) @ W_U.T) < 1e-6
        assert relative(cache.readout(layer, plain=True), W_out @ W_U.T) < 1e-6
        assert relative(cache.read(f"readout/{layer}_norm"), np.linalg.norm(centred[:, gain != 0], axis=1)) < 1e-6


def test_the_gram_matrix_is_that_of_the_centred_year_directions(tiny: Model, prompts: PromptSet, cache: Cache) -> None:
    G = (tiny.W_U[torch.as_tensor(prompts.year_token_ids).long()] * tiny.ln_final.gain).numpy().astype(float)
    G -= G.mean(1, keepdims=True)
    assert relative(cache.gram, G @ G.T) < 1e-6
    assert cache.d_gain == 30


def test_a_slice_of_neurons_is_that_part_of_all(cache: Cache) -> None:
    part = slice(5, 9)
    assert np.array_equal(cache.post(0, part), cache.post(0)[:, part])
    assert np.array_equal(cache.readout(0, part), cache.readout(0)[part])


def test_every_dataset_carries_a_checksum_and_nothing_points_elsewhere(cache: Cache) -> None:
    def check(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            assert node.fletcher32, name
            assert not node.is_virtual
            assert node.dtype != object
            assert node.external is None

    assert cache.path.read_bytes().startswith(b"neurons-cache 1\nsha256 ")
    with h5py.File(cache.path) as file:
        file.visititems(check)
        for group in (node for node in file.values() if isinstance(node, h5py.Group)):
            assert all(isinstance(group.get(name, getlink=True), h5py.HardLink) for name in group)


def test_attributes_say_what_the_file_is(tiny: Model, prompts: PromptSet, cache: Cache) -> None:
    with h5py.File(cache.path) as file:
        found = dict(file.attrs)
    expected = {"format": "neurons-cache", "format_version": 2, "key": cache.key, "model": "tiny", "dtype": "float32"}
    expected |= {"model_sha256": tiny.fingerprint, "prompts_sha256": prompts.digest, "bos": prompts.bos}
    assert {name: found[name] for name in expected} == expected
    assert found["layers"].tolist() == list(LAYERS)
    assert {"neurons", "numpy", "torch", "transformers"} <= set(cache.versions)


def test_progress_counts_every_prompt_once(tiny: Model, prompts: PromptSet, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    cache_activations(
        tiny, prompts, layers=[1], cache_dir=tmp_path, progress=lambda done, total: seen.append((done, total))
    )
    total = len(prompts) + len(prompts.counterfactual_tokens)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {t for _, t in seen} == {total}


# --- reuse -----------------------------------------------------------------------------------------


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each run of the model had."""
    counted: list[int] = []

    def counting(model: Model, tokens: np.ndarray, **settings: Any) -> EndRun:
        counted.append(len(tokens))
        return run(model, tokens, **settings)

    monkeypatch.setattr(compute, "run", counting)
    return counted


def test_a_second_call_opens_the_file_without_running_the_model(
    tiny: Model, prompts: PromptSet, tmp_path: Path, runs: list[int]
) -> None:
    first = cache_activations(tiny, prompts, layers=[1], cache_dir=tmp_path)
    assert sum(runs) == len(prompts) + 3  # prompts and counterfactuals, each once
    second = cache_activations(tiny, prompts, layers=[1, 1], cache_dir=tmp_path)
    assert len(runs) == 3
    assert second.path == first.path
    assert files(tmp_path) == [first.path.name]


def test_a_changed_layer_noun_or_seed_is_another_file(
    tiny: Model, prompts: PromptSet, mini_tokenizer: Gpt2Tokenizer, tmp_path: Path
) -> None:
    other = year_spans(mini_tokenizer, nouns=["war", "siege", "trial"], centuries="draw", seed=1)
    reseeded = year_spans(mini_tokenizer, nouns=["war", "siege", "reign"], centuries="draw", seed=5)
    keys = {
        cache_key(tiny.checkpoint, chosen, layers)
        for chosen, layers in ((prompts, (0, 2)), (prompts, (0, 1)), (other, (0, 2)), (reseeded, (0, 2)))
    }
    assert len(keys) == 4


def test_the_order_of_layers_is_no_other_file(tiny: Model, prompts: PromptSet) -> None:
    assert cache_key(tiny.checkpoint, prompts, (2, 0)) == cache_key(tiny.checkpoint, prompts, (0, 2))


@pytest.mark.parametrize("change", [{"seed": 1}, {"layer_norm_epsilon": 1e-6}, {"activation_function": "relu"}])
def test_a_changed_weight_or_config_is_another_file(prompts: PromptSet, tmp_path: Path, change: dict[str, Any]) -> None:
    one = find_checkpoint(write_random_gpt2(tmp_path / "one"))
    two = find_checkpoint(write_random_gpt2(tmp_path / "two", **change))
    assert cache_key(one, prompts, (1,)) != cache_key(two, prompts, (1,))


def test_the_default_layers_are_the_last_third(tiny: Model, prompts: PromptSet, tmp_path: Path) -> None:
    assert cache_activations(tiny, prompts, cache_dir=tmp_path).layers == (2,)


def test_the_file_is_named_after_the_model_for_people(tiny: Model, prompts: PromptSet, tmp_path: Path) -> None:
    named = replace(tiny.checkpoint, name="../what an odd näme/")
    path = cache_path(tmp_path, named, "0123456789abcdef" * 4)
    assert path == tmp_path / "what_an_odd_n_me-0123456789abcdef.h5"


def test_a_cache_is_used_from_another_process(cache: Cache) -> None:
    again = pickle.loads(pickle.dumps(cache))
    assert np.array_equal(again.post(2), cache.post(2))


def test_a_cache_opens_without_torch(cache: Cache) -> None:
    program = (
        "import sys\nfrom neurons.cache.format import open_cache\n"
        f"cache = open_cache({str(cache.path)!r})\n"
        "sys.stdout.write(f'{cache.post(2).shape} {cache.noun[0]}')\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{cache.post(2).shape} {cache.noun[0]}"


# --- damaged and foreign files ---------------------------------------------------------------------


def read_all(path: Path) -> None:
    """Open a cache and read what its header does not show."""
    cache = open_cache(path)
    for layer in LAYERS:
        for read in (cache.post, cache.readout):
            read(layer)


def refusal(path: Path) -> str:
    with pytest.raises(CacheError) as error:
        read_all(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def change(path: Path, **attributes: Any) -> None:
    with edited(path) as file:
        file.attrs.update(attributes)


@pytest.mark.parametrize("version", [0, 3, True, "two"])
def test_a_cache_of_another_version_is_refused_with_both(copy: Path, version: object) -> None:
    change(copy, format_version=version)
    assert refusal(copy) == (
        f"cache {copy} has format version {version}, this program reads versions 1 and 2: delete it and run again to"
        " rebuild it"
    )


def test_an_unfinished_cache_is_refused(copy: Path) -> None:
    change(copy, complete=False)
    assert "is not complete: delete it and run again" in refusal(copy)


@pytest.mark.parametrize("kept", [0, 10, 1000, 30_000, -1])
def test_a_truncated_cache_is_refused(copy: Path, kept: int) -> None:
    copy.write_bytes(copy.read_bytes()[:kept])
    assert "cannot be read" in refusal(copy)


def test_a_foreign_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    assert "not a cache of this program): give a file that `neurons cache build` wrote" in refusal(path)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.h5"
    path.write_text("nothing of the kind")
    assert "cannot be read" in refusal(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path)


def test_a_cache_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gone.h5"
    assert refusal(path) == f"cache {path} does not exist: `neurons cache list` shows those that do"


@pytest.mark.parametrize("name", ["mlp/2/post", "readout/0", "final/scale", "prompts/tokens", "prompts/missing"])
def test_a_lost_dataset_is_refused(copy: Path, name: str) -> None:
    with edited(copy) as file:
        del file[name]
    refusal(copy)


def test_a_dataset_of_another_shape_is_refused_by_name(copy: Path) -> None:
    with edited(copy) as file:
        del file["readout/2"]
        file.create_dataset("readout/2", data=np.zeros((3, 100), np.float32), chunks=True, fletcher32=True)
    assert "dataset readout/2 is (3, 100), not (37, 100)" in refusal(copy)


def test_a_group_in_a_dataset_s_place_is_refused(copy: Path) -> None:
    with edited(copy) as file:
        del file["prompts/tokens"]
        file.create_group("prompts/tokens")
    refusal(copy)


@pytest.mark.parametrize("attribute", ["layers", "key", "d_gain", "versions"])
def test_a_lost_attribute_is_refused(copy: Path, attribute: str) -> None:
    with edited(copy) as file:
        del file.attrs[attribute]
    refusal(copy)


@pytest.mark.parametrize(
    ("attribute", "value"), [("layers", np.array([], np.int32)), ("layers", "8-11"), ("layers", 3), ("versions", "{")]
)
def test_an_attribute_that_makes_no_sense_is_refused(copy: Path, attribute: str, value: Any) -> None:
    change(copy, **{attribute: value})
    refusal(copy)


def test_a_flipped_byte_in_the_numbers_is_noticed(copy: Path) -> None:
    with h5py.File(copy) as file:
        place = file["mlp/2/post"].id.get_chunk_info(0).byte_offset
    whole = bytearray(copy.read_bytes())
    whole[place + 40] ^= 0xFF
    copy.write_bytes(whole)
    assert "delete it and run again" in refusal(copy)


def test_a_damaged_file_is_not_replaced_silently(
    tiny: Model, prompts: PromptSet, cache: Cache, copy: Path, runs: list[int]
) -> None:
    copy.write_bytes(b"damaged")
    with pytest.raises(CacheError, match="delete it and run again"):
        cache_activations(tiny, prompts, layers=LAYERS, cache_dir=copy.parent)
    assert copy.read_bytes() == b"damaged"
    assert not runs


# --- writing fails as a whole ----------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_one_line(tiny: Model, prompts: PromptSet, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(CacheError) as error:
        cache_activations(tiny, prompts, layers=[1], cache_dir=blocked / "cache")
    assert str(error.value) == (
        f"cache folder {blocked / 'cache'} cannot be written (Not a directory): choose another for the cache"
    )
    assert files(tmp_path) == ["file"]


def test_a_file_in_the_folder_s_place_is_one_line(tiny: Model, prompts: PromptSet, tmp_path: Path) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("mine")
    with pytest.raises(CacheError, match="cannot be written"):
        cache_activations(tiny, prompts, layers=[1], cache_dir=blocked)
    assert blocked.read_text() == "mine"


@pytest.mark.parametrize("layers", [[3], [-1], [0, 12], []])
def test_layers_outside_the_model_write_nothing(
    tiny: Model, prompts: PromptSet, tmp_path: Path, layers: list[int]
) -> None:
    with pytest.raises(InputError, match="layer"):
        cache_activations(tiny, prompts, layers=layers, cache_dir=tmp_path / "cache")
    assert files(tmp_path) == []


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "words"), [((8, 9, 10, 11), "8-11"), ((3,), "3"), ((8, 3), "3, 8"), ((1, 0), "0-1")]
)
def test_layers_are_written_as_a_range_where_they_are_one(layers: tuple[int, ...], words: str) -> None:
    assert format_layers(layers) == words


# --- files of released versions --------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_each_version_opens_and_says_the_same(version: int) -> None:
    """Version 1 was written by 0.1.0, version 2 by its successor: one key, so one set of numbers."""
    path = Path(__file__).parents[1] / "data" / f"cache-v{version}.h5"
    verify_cache(path)
    found = open_cache(path)
    assert found.key == "1dc63f871eddefd794be48249381e9f49cf965cda0bf31a1129a791c3f2a1ef0"
    assert found.start_year.tolist() == [1, 2, 32, 33, 98] * 2
    assert set(found.noun) == {"war", "siege"}
    assert found.scale[:3].tolist() == [0.7176480889320374, 0.7312999963760376, 0.7732169032096863]
    assert found.post(1).sum() == pytest.approx(10.652076721191406)
    effect = logit_effects(found, years=[32]).of_array("L1N3", start_year=32)
    assert effect[:2] == pytest.approx([-0.16845808923244476, -0.14776065945625305])
