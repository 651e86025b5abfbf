"""Roles of a circuit's parts: attention, direct effect on the years, and the geometry of the start years.

1. `attention`: each head's attention from its position over the prompt, and the share on YY.
2. `written_map`: the direct effect of each head or MLP at END on the 100 years, by start year (through the final
   LayerNorm with its scale frozen).
3. The shape of such a map (`neurons.decomposition.shapes`) is the part's role: triangle, diagonal or span limit.
4. `projection`: residuals of the start years on their two principal axes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from neurons.circuit.graph import Node
from neurons.circuit.paths import Patching
from neurons.circuit.results import Projection, Role
from neurons.decomposition.shapes import correlations, doubly_centred, shape_of
from neurons.model.model import attention_pattern, final_scale
from neurons.model.rerun import head_write, mlp_output
from neurons.rounding import MARGIN


@torch.inference_mode()
def roles(paths: Patching, nodes: Sequence[Node]) -> tuple[Role, ...]:
    """Return the role of each head and MLP among the nodes."""
    return tuple(_role(paths, node) for node in nodes if node.layer >= 0)


def _role(paths: Patching, node: Node) -> Role:
    looks = None if node.head is None else attention(paths, node)
    written = written_map(paths, node) if node.position == paths.layout.positions[-1] else None
    years = _years(paths)
    found = {} if written is None else correlations(written, years)
    return Role(
        node=node,
        start_years=years,
        attention=looks,
        on_year=None if looks is None else float(looks[_first(paths)]),
        written=written,
        correlations=found,
        shape=shape_of(found) if found else None,
        size=0.0 if written is None else float(np.sqrt((doubly_centred(written) ** 2).mean())),
    )


def attention(paths: Patching, head: Node) -> Float[np.ndarray, " T"]:
    """Return the mean attention of a head from its position over all tokens."""
    layer, index = head.layer, slice(head.head, (head.head or 0) + 1)
    queries, keys = (kept[layer][:, :, index].transpose(1, 2) for kept in (paths.base.queries, paths.base.keys))
    pattern = attention_pattern(paths.model, layer, queries, keys)
    return paths.averaging @ pattern[:, 0, paths.layout.at(head.position)].numpy(force=True).astype(float)


def written_map(paths: Patching, node: Node) -> Float[np.ndarray, "Y 100"]:
    """Return the direct effect of a head or MLP at END on the year logits, mean over the prompts of each start year."""
    if node.head is None:
        write = mlp_output(paths.base, node.layer, -1)
    else:
        write = head_write(paths.model, node.layer, node.head, paths.base.z[node.layer][:, -1, node.head])
    logits = write @ paths.model.year_readout(paths.year_ids) / final_scale(paths.model, paths.base.final)[:, None]
    return _by_year(paths, logits.numpy(force=True).astype(float))


@torch.inference_mode()
def projection(paths: Patching, position: str, layer: int) -> Projection:
    """Project a position's residuals before a layer's attention on the principal axes of the start years' means."""
    means = _by_year(paths, paths.base.pre[layer][:, paths.layout.at(position)].numpy(force=True).astype(float))
    centred = means - means.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    share = size**2 / max(float((size**2).sum()), np.finfo(float).tiny)
    last = left[-1, :2]
    signs = np.where(last < -MARGIN * np.abs(left[:, :2]).max(0), -1.0, 1.0)
    return Projection(
        position, layer, _years(paths), left[:, :2] * size[:2] * signs, (float(share[0]), float(share[1]))
    )


def _years(paths: Patching) -> tuple[int, ...]:
    return tuple(np.unique(paths.start_year).tolist())


def _by_year(paths: Patching, values: Float[np.ndarray, "P m"]) -> Float[np.ndarray, "Y m"]:
    return np.stack([values[paths.start_year == year].mean(0) for year in _years(paths)])


def _first(paths: Patching) -> int:
    """Where YY stands among all tokens."""
    return paths.base.keys[0].shape[1] - paths.base.n_positions
