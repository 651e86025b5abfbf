"""What the parts of a circuit do: where heads look, what each part writes for each start year, how years are laid out.

1. `attention`: each head's attention from its position over the prompt, and the share that falls on YY.
2. `written_maps`: what each head or MLP at END adds to the logits of the 100 years, by start year (the direct
   effect through the final LayerNorm with the scale as it was).
3. The shape of such a map (`maps.py`) is the part's role: triangle, diagonal or span limit.
4. `projection`: residuals of the start years on their two main axes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from neurons.circuit.graph import Node
from neurons.circuit.paths import Patching
from neurons.circuit.results import Projection, Role
from neurons.decomposition.shapes import correlations, doubly_centred, shape_of
from neurons.model.forward import final_scale
from neurons.model.rerun import attention_pattern, head_write, mlp_output


@torch.inference_mode()
def roles(on: Patching, nodes: Sequence[Node]) -> tuple[Role, ...]:
    """The role of each head and MLP among the nodes."""
    return tuple(_role(on, node) for node in nodes if node.layer >= 0)


def _role(on: Patching, node: Node) -> Role:
    looks = None if node.head is None else attention(on, node)
    written = written_map(on, node) if node.position == on.layout.positions[-1] else None
    years = _years(on)
    found = {} if written is None else correlations(written, years)
    return Role(
        node=node,
        start_years=years,
        attention=looks,
        on_year=None if looks is None else float(looks[_first(on)]),
        written=written,
        correlations=found,
        shape=shape_of(found) if found else None,
        size=0.0 if written is None else float(np.sqrt((doubly_centred(written) ** 2).mean())),
    )


def attention(on: Patching, head: Node) -> Float[np.ndarray, " T"]:
    """Mean attention of a head from its position over all tokens."""
    layer, index = head.layer, slice(head.head, (head.head or 0) + 1)
    queries, keys = on.base.queries[layer][:, :, index], on.base.keys[layer][:, :, index]
    pattern = attention_pattern(on.model, layer, queries, keys)
    return on.averaging @ pattern[:, 0, on.layout.at(head.position)].numpy(force=True).astype(float)


def written_map(on: Patching, node: Node) -> Float[np.ndarray, "Y 100"]:
    """What a head or MLP at END adds to the year logits, mean over the prompts of each start year."""
    if node.head is None:
        write = mlp_output(on.base, node.layer, -1)
    else:
        write = head_write(on.model, node.layer, node.head, on.base.z[node.layer][:, -1, node.head])
    logits = write @ on.model.year_readout(on.year_ids) / final_scale(on.model, on.base.final)[:, None]
    return _by_year(on, logits.numpy(force=True).astype(float))


@torch.inference_mode()
def projection(on: Patching, position: str, layer: int) -> Projection:
    """Residuals at a position, before a layer's attention, on the two main axes of the start years' means."""
    means = _by_year(on, on.base.pre[layer][:, on.layout.at(position)].numpy(force=True).astype(float))
    centred = means - means.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    share = size**2 / max(float((size**2).sum()), np.finfo(float).tiny)
    signs = np.sign(left[-1, :2]) + (left[-1, :2] == 0)
    return Projection(position, layer, _years(on), left[:, :2] * size[:2] * signs, (float(share[0]), float(share[1])))


def _years(on: Patching) -> tuple[int, ...]:
    return tuple(np.unique(on.start_year).tolist())


def _by_year(on: Patching, values: Float[np.ndarray, "P m"]) -> Float[np.ndarray, "Y m"]:
    return np.stack([values[on.start_year == year].mean(0) for year in _years(on)])


def _first(on: Patching) -> int:
    """Where YY stands among all tokens."""
    return on.base.keys[0].shape[1] - on.base.n_positions
