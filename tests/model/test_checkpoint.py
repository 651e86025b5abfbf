"""Loading: the weights are the file's own, the tokenizer and names are right, what is damaged is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import as_older_checkpoints, put_snapshot, rewrite, shard
from random_gpt2 import write_random_gpt2
from safetensors import torch as torch_files
from safetensors.numpy import load_file, save_file

from neurons.model.checkpoint import load_model
from neurons.model.model import Model
from neurons.types import CheckpointError, InputError, NeuronsError

PLACES = {
    "attn.c_attn.weight": "qkv", "attn.c_attn.bias": "b_qkv", "attn.c_proj.weight": "W_O", "attn.c_proj.bias": "b_O",
    "mlp.c_fc.weight": "W_in", "mlp.c_fc.bias": "b_in", "mlp.c_proj.weight": "W_out", "mlp.c_proj.bias": "b_out",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_random_gpt2(tmp_path / "tiny", n_positions=16)


def test_every_weight_is_the_file_s_own(random_small: Model) -> None:
    file = load_file(random_small.checkpoint.folder / "model.safetensors")
    for layer, block in enumerate(random_small.blocks):
        h = f"transformer.h.{layer}."
        for name, place in PLACES.items():
            assert np.array_equal(getattr(block, place), file[h + name])
        for norm in ("ln_1", "ln_2"):
            assert np.array_equal(getattr(block, norm).gain, file[f"{h}{norm}.weight"])
            assert np.array_equal(getattr(block, norm).bias, file[f"{h}{norm}.bias"])
    assert np.array_equal(random_small.W_E, file["transformer.wte.weight"])
    assert np.array_equal(random_small.W_pos, file["transformer.wpe.weight"])
    assert np.array_equal(random_small.ln_final.gain, file["transformer.ln_f.weight"])
    assert np.array_equal(random_small.ln_final.bias, file["transformer.ln_f.bias"])


def test_a_tied_head_is_the_embedding(folder: Path) -> None:
    model = load_model(folder)
    assert model.W_U is model.W_E
    assert model.to(torch.float64).W_U.dtype == torch.float64


def test_an_untied_head_is_read_from_the_file(tmp_path: Path) -> None:
    model = load_model(write_random_gpt2(tmp_path, tie_word_embeddings=False))
    file = load_file(tmp_path / "model.safetensors")
    assert np.array_equal(model.W_U, file["lm_head.weight"])
    assert not np.array_equal(model.W_U, model.W_E)


def test_the_readout_gives_year_logits_up_to_the_scale_and_the_norm_s_bias(random_small: Model) -> None:
    model = random_small.to(torch.float64)
    years = torch.arange(300, 400)
    residual = torch.randn(5, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centred = residual - residual.mean(1, keepdim=True)
    scale = (centred.square().mean(1, keepdim=True) + model.config.layer_norm_eps).sqrt()
    normed = centred / scale * model.ln_final.gain + model.ln_final.bias
    expected = normed @ model.W_U[years].T
    found = residual @ model.year_readout(years) / scale + model.ln_final.bias @ model.W_U[years].T
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_checkpoint_named_as_older_ones_loads_the_same(folder: Path) -> None:
    before = load_model(folder)
    rewrite(folder, as_older_checkpoints)
    after = load_model(folder)
    assert torch.equal(after.blocks[1].W_out, before.blocks[1].W_out)
    assert torch.equal(after.W_U, before.W_U)


def test_a_sharded_checkpoint_loads_the_same(folder: Path) -> None:
    before = load_model(folder)
    shard(folder)
    assert torch.equal(load_model(folder).blocks[1].W_in, before.blocks[1].W_in)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_another_precision_are_read_as_float32(folder: Path, dtype: type) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t.astype(dtype) for name, t in tensors.items()}, folder / "model.safetensors")
    model = load_model(folder)
    assert model.W_E.dtype == torch.float32
    expected = tensors["transformer.wte.weight"].astype(dtype).astype(np.float32)
    assert np.array_equal(model.W_E, expected)


def test_bfloat16_is_read_as_float32(folder: Path) -> None:
    tensors = torch_files.load_file(folder / "model.safetensors")
    torch_files.save_file({name: t.bfloat16() for name, t in tensors.items()}, folder / "model.safetensors")
    expected = tensors["transformer.h.0.mlp.c_fc.weight"].bfloat16().float()
    assert torch.equal(load_model(folder).blocks[0].W_in, expected)


def test_a_checkpoint_that_is_overwritten_later_changes_nothing(folder: Path) -> None:
    model = load_model(folder)
    before = model.blocks[1].W_out.clone()
    file = folder / "model.safetensors"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(0)
        stream.truncate(size)
    assert torch.equal(model.blocks[1].W_out, before)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc")
def test_loading_holds_one_copy_of_the_weights(gpt2_shaped: Model) -> None:
    """Peak above torch's own memory, in a process of its own: within 1.2 times the weights."""
    folder = gpt2_shaped.checkpoint.folder
    program = (
        "import re, neurons.model.checkpoint as checkpoint\n"
        "def kib(name): return int(re.search(name + r':\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = kib('VmRSS')\n"
        f"model = checkpoint.load_model({str(folder)!r})\n"
        "print((kib('VmHWM') - before) * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    weights = (folder / "model.safetensors").stat().st_size
    assert int(done.stdout) / weights < 1.2


def test_gpt2_loads_from_the_hub_s_cache_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    snapshot = put_snapshot(tmp_path, "openai-community/gpt2")
    model = load_model("gpt2")
    assert model.name == "gpt2"
    assert np.array_equal(model.blocks[1].W_out, load_file(snapshot / "model.safetensors")["h.1.mlp.c_proj.weight"])


def test_loading_says_nothing(folder: Path) -> None:
    """Notes and progress bars of the libraries would end up among a command's messages."""
    program = f"import neurons; neurons.load_model({str(folder)!r}).bridge"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == ""


def refusal(folder: Path, kind: type[NeuronsError]) -> str:
    with pytest.raises(NeuronsError) as error:
        load_model(folder)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_tensor(folder: Path, bad: float) -> None:
    rewrite(folder, lambda tensors: np.put(tensors["transformer.h.1.mlp.c_fc.weight"], 7, bad))
    assert "tensor h.1.mlp.c_fc.weight holds numbers that are not finite" in refusal(folder, CheckpointError)


def test_large_weights_are_not_taken_for_infinite(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors["transformer.wpe.weight"].fill(3e38))
    assert load_model(folder).W_pos.max() == np.float32(3e38)


def test_a_checkpoint_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "merges.txt").unlink()
    assert "has no tokenizer: put GPT-2's vocab.json and merges.txt" in refusal(folder, InputError)


def test_what_the_libraries_refuse_is_one_line_and_changes_no_number(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"resid_pdrop": "none"}))
    model = load_model(folder)
    with pytest.raises(CheckpointError) as error:
        model.bridge  # noqa: B018
    assert str(error.value).startswith(f"{folder} cannot be loaded: ")
    assert "\n" not in str(error.value)
