"""GPT-2 checkpoints of random weights, written straight to safetensors: any shape, any config, no training.

The weights are of a trained model's scale, so that an oracle means something: matrices normal 0.02 at
width 768 (more at smaller widths, so that every layer moves the residual as much), LayerNorm gains
spread around 1, no bias zero.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

MINI = Path(__file__).resolve().parents[1] / "neurons" / "model" / "mini"
TOKENIZER_FILES = ("vocab.json", "merges.txt")
BLOCK_TENSORS = {
    "ln_1.weight": ("d",), "ln_1.bias": ("d",), "ln_2.weight": ("d",), "ln_2.bias": ("d",),
    "attn.c_attn.weight": ("d", "3d"), "attn.c_attn.bias": ("3d",),
    "attn.c_proj.weight": ("d", "d"), "attn.c_proj.bias": ("d",),
    "mlp.c_fc.weight": ("d", "m"), "mlp.c_fc.bias": ("m",),
    "mlp.c_proj.weight": ("m", "d"), "mlp.c_proj.bias": ("d",),
}  # fmt: skip


def write_random_gpt2(
    folder: Path,
    *,
    seed: int = 0,
    tokenizer: Path = MINI,
    n_layer: int = 2,
    n_embd: int = 32,
    n_head: int = 4,
    n_positions: int = 64,
    vocab_size: int | None = None,
    **config: Any,
) -> Path:
    """Write config, weights and tokenizer to `folder`; further keywords go to config.json as they are."""
    sizes = {"n_layer": n_layer, "n_embd": n_embd, "n_head": n_head, "n_positions": n_positions}
    vocab_size = vocab_size or len(json.loads((tokenizer / "vocab.json").read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": vocab_size} | sizes | config
    (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    save_file(random_tensors(whole, seed), folder / "model.safetensors", metadata={"format": "pt"})
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / name)
    return folder


def random_tensors(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Every tensor that GPT-2 uses, under the names that `save_pretrained` writes."""
    rng, d = np.random.default_rng(seed), config["n_embd"]
    sizes = {"d": d, "3d": 3 * d, "m": config.get("n_inner") or 4 * d}
    spread = 0.02 * math.sqrt(768 / d)

    def draw(*shape: int, gain: bool = False, size: float = spread) -> np.ndarray:
        values = rng.standard_normal(shape, dtype=np.float32)
        values *= 0.2 if gain else size
        return values + np.float32(1) if gain else values

    tensors = {
        "transformer.wte.weight": draw(config["vocab_size"], d, size=5 * spread),
        "transformer.wpe.weight": draw(config["n_positions"], d),
        "transformer.ln_f.weight": draw(d, gain=True),
        "transformer.ln_f.bias": draw(d),
    }
    for layer in range(config["n_layer"]):
        for name, shape in BLOCK_TENSORS.items():
            is_gain = name in {"ln_1.weight", "ln_2.weight"}
            tensors[f"transformer.h.{layer}.{name}"] = draw(*(sizes[s] for s in shape), gain=is_gain)
    if not config.get("tie_word_embeddings", True):
        tensors["lm_head.weight"] = draw(config["vocab_size"], d, size=5 * spread)
    return tensors
