"""The oracle of path patching: whole runs of TransformerBridge with plain hooks, nothing added or subtracted.

1. Run the prompts and the 01-counterfactuals, and keep what every component puts out.
2. Run the prompts with the sender's output from the 01-run and every other output held at the prompt's; record
   what the receiver reads.
3. Run the prompts with the receiver fed that, every other output held; read the year logits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurons.circuit.graph import Edge, Node

Hook = Callable[[Tensor, Any], Tensor]
READS = {"q": "attn.hook_q", "k": "attn.hook_k", "v": "attn.hook_v", "in": "mlp.hook_pre"}


@dataclass(frozen=True, eq=False)
class PathOracle:
    """positions: where each name stands among all tokens."""

    bridge: Any
    tokens: Tensor
    clean: Any
    other: Any
    positions: dict[str, int]
    year_ids: Tensor

    @torch.inference_mode()
    def year_logits(self, path: Edge) -> Tensor:
        """Of the path sender -> receiver -> logits [P, 100]."""
        into_residual = [*self._held(None), *self._swapped(path.sender)]
        if path.receiver is None:
            return self._run(into_residual)
        where = f"blocks.{path.receiver.layer}.{READS[path.slot]}"
        seen: list[Tensor] = []
        self._run([*into_residual, (where, lambda x, hook: seen.append(x.clone()))])
        at = self.positions[path.sender.position]
        return self._run([*self._held(path.receiver), (where, _put(seen[0], at, path.receiver.head))])

    @property
    def clean_years(self) -> Tensor:
        """Of the prompts as they are [P, 100]."""
        return self.clean["logits"][:, -1, self.year_ids]

    def _run(self, hooks: list[tuple[str, Any]]) -> Tensor:
        return self.bridge.run_with_hooks(self.tokens, fwd_hooks=hooks)[:, -1, self.year_ids]

    def _held(self, free: Node | None) -> list[tuple[str, Hook]]:
        """Every head and MLP at every position put out what they did on the prompt, but for one of them."""
        hooks = []
        for layer in range(self.bridge.cfg.n_layers):
            for name, is_mlp in (("attn.hook_z", False), ("mlp.hook_post", True)):
                mine = free is not None and free.layer == layer and (free.head is None) == is_mlp
                kept = self.clean[f"blocks.{layer}.{name}"]
                at = [(self.positions[free.position], free.head)] if mine and free else []
                hooks.append((f"blocks.{layer}.{name}", _hold(kept, at)))
        return hooks

    def _swapped(self, sender: Node) -> list[tuple[str, Hook]]:
        at = self.positions[sender.position]
        if sender.layer < 0:
            return [("hook_embed", _put(self.other["hook_embed"], at, None))]
        name = f"blocks.{sender.layer}.{'mlp.hook_post' if sender.head is None else 'attn.hook_z'}"
        return [(name, _put(self.other[name], at, sender.head))]


def _hold(kept: Tensor, free: list[tuple[int, int | None]]) -> Hook:
    def hook(x: Tensor, hook: Any) -> Tensor:
        held = kept.clone()
        for position, head in free:
            at = (slice(None), position) if head is None else (slice(None), position, head)
            held[at] = x[at]
        return held

    return hook


def _put(source: Tensor, position: int, head: int | None) -> Hook:
    def hook(x: Tensor, hook: Any) -> Tensor:
        changed = x.clone()
        at = (slice(None), position) if head is None else (slice(None), position, head)
        changed[at] = source[at]
        return changed

    return hook


@torch.inference_mode()
def path_oracle(
    bridge: Any, tokens: np.ndarray, tokens_01: np.ndarray, positions: tuple[str, ...], year_ids: np.ndarray
) -> PathOracle:
    """positions: the names of the last ones, ending with END."""
    ids, ids_01 = (torch.as_tensor(t, dtype=torch.long) for t in (tokens, tokens_01))
    first = tokens.shape[1] - len(positions)
    logits, kept = bridge.run_with_cache(ids)
    return PathOracle(
        bridge=bridge,
        tokens=ids,
        clean={**kept, "logits": logits},
        other=bridge.run_with_cache(ids_01)[1],
        positions={name: first + i for i, name in enumerate(positions)},
        year_ids=torch.as_tensor(year_ids, dtype=torch.long),
    )


@torch.inference_mode()
def kept_logits(oracle: PathOracle, nodes: Sequence[Node], *, clean_heads: bool = False) -> Tensor:
    """Year logits of the prompts when every head and MLP but `nodes` puts out what it did on the 01-run.

    clean_heads: the heads of `nodes` put out what they did on the prompt.
    """
    hooks = []
    for layer in range(oracle.bridge.cfg.n_layers):
        for name, is_mlp in (("attn.hook_z", False), ("mlp.hook_post", True)):
            mine = [n for n in nodes if n.layer == layer and (n.head is None) == is_mlp]
            free = [(oracle.positions[n.position], n.head) for n in mine]
            held = oracle.other[f"blocks.{layer}.{name}"].clone()
            if clean_heads and not is_mlp:
                for position, head in free:
                    held[:, position, head] = oracle.clean[f"blocks.{layer}.{name}"][:, position, head]
                free = []
            hooks.append((f"blocks.{layer}.{name}", _hold(held, free)))
    return oracle._run(hooks)
