"""What a cache file holds: the names of its datasets, their shapes and types. `docs/cache-format.md` in code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neurons.task.years import N_YEARS
from neurons.types import check_choice

FORMAT = "neurons-cache"
FORMAT_VERSION = 1
HOOK = "mlp.hook_post at END"
Dtype = Literal["float32", "float16"]
DTYPE: Dtype = "float32"
"""How activations are stored unless asked otherwise."""
HALVED = ("post", "post_01", "residual")
"""Last parts of the names of the datasets that are float16 in a cache of that type; all others stay float32."""
SUFFIX = ".h5"
PROMPT_CHUNK, NEURON_CHUNK = 64, 512
"""Rows and columns of a chunk: what HDF5 reads at a time."""

MANIFEST = "manifest"
INTEGERS = {
    "prompts/tokens": "int32",
    "prompts/start_year": "int16",
    "prompts/century": "int16",
    "prompts/counterfactual": "int32",
    "prompts/missing": "int16",
    "counterfactual/tokens": "int32",
    "years/token_ids": "int32",
    MANIFEST: "uint8",
}
ATTRIBUTES: dict[str, type] = {
    "format": str,
    "format_version": int,
    "complete": bool,
    "key": str,
    "model": str,
    "model_sha256": str,
    "layers": tuple,
    "dtype": str,
    "prompts_sha256": str,
    "template": str,
    "bos": int,
    "year_position": int,
    "d_gain": int,
    "versions": str,
}


@dataclass(frozen=True)
class Sizes:
    """P prompts of T tokens, Q counterfactuals, width d of the residual stream, N neurons a layer, the layers."""

    P: int
    T: int
    Q: int
    d: int
    N: int
    layers: tuple[int, ...]


def expected_shapes(
    P: int, T: int, Q: int, d_model: int, d_mlp: int, layers: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Every dataset of a fixed shape; `prompts/missing` [any, 2] and `manifest` [any] come on top."""
    shapes: dict[str, tuple[int, ...]] = {
        "prompts/tokens": (P, T),
        "prompts/start_year": (P,),
        "prompts/century": (P,),
        "prompts/noun": (P,),
        "prompts/counterfactual": (P,),
        "counterfactual/tokens": (Q, T),
        "counterfactual/year_logits": (Q, N_YEARS),
        "counterfactual/logsumexp": (Q,),
        "years/token_ids": (N_YEARS,),
        "years/gram": (N_YEARS, N_YEARS),
        "final/scale": (P,),
        "final/year_logits": (P, N_YEARS),
        "final/logsumexp": (P,),
        "final/residual": (P, d_model),
    }
    for layer in layers:
        shapes |= {
            f"mlp/{layer}/post": (P, d_mlp),
            f"mlp/{layer}/post_01": (Q, d_mlp),
            f"readout/{layer}": (d_mlp, N_YEARS),
            f"readout/{layer}_bias": (N_YEARS,),
            f"readout/{layer}_norm": (d_mlp,),
            f"readout_plain/{layer}": (d_mlp, N_YEARS),
        }
    return shapes


def shapes_of(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    return expected_shapes(sizes.P, sizes.T, sizes.Q, sizes.d, sizes.N, sizes.layers)


def groups_of(names: Sequence[str]) -> set[str]:
    """Every group that datasets of these names lie in."""
    found = set()
    for name in names:
        parts = name.split("/")[:-1]
        found |= {"/".join(parts[: i + 1]) for i in range(len(parts))}
    return found


def type_of(name: str, dtype: Dtype = DTYPE) -> str:
    """The type of a dataset's numbers, little-endian; `prompts/noun` alone is text of a fixed length."""
    return INTEGERS.get(name, dtype if name.rpartition("/")[2] in HALVED else "float32")


def check_dtype(text: str) -> Dtype:
    """The type as which activations are stored; `InputError` for another."""
    dtype: Dtype = check_choice("dtype", text, Dtype)
    return dtype
