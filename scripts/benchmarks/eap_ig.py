"""Effects of all edges by EAP-IG, against its own way: hooks on a TransformerBridge and a backward pass a step.

The bridge's heads read residuals of their own (`use_split_qkv_input`) and their outputs are apart (`use_attn_result`).
What every component writes in the corrupted run less the clean run, at all positions, is multiplied by the gradient
at every later input. Its edges name no position: ours are summed over positions to be compared.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch

import neurons
from benchmarks.pairs import Row, Turns, alternate, difference, row
from benchmarks.setting import Setting
from neurons.circuit.edge_attribution import STEPS, edge_effects
from neurons.circuit.edges import EdgeEffects
from neurons.circuit.graph import Node, Slot
from neurons.circuit.paths import patching_of
from neurons.model.hugging_face import boot_bridge
from neurons.task.years import later

PROMPTS, PAIRS = 64, 3
TOLERANCE = 5e-4
"""Of the largest effect, which is 1e-6 with random weights: float32 sums in another order."""


class Edges:
    """Prompts of one noun, each of another start year, their 01-counterfactuals, and a bridge with hooks."""

    def __init__(self, setting: Setting) -> None:
        self.model = setting.model
        self.layers, self.heads = self.model.config.n_layers, self.model.config.n_heads
        prompts = neurons.year_spans(self.model.tokenizer, nouns=1, centuries="draw")
        rows = np.linspace(0, len(prompts) - 1, PROMPTS).astype(int)
        self.clean = prompts.tokens[rows]
        self.corrupted = prompts.counterfactual_tokens[prompts.counterfactual[rows]]
        self.start_year, self.year_ids, self.first = (
            prompts.start_year[rows],
            prompts.year_token_ids,
            prompts.year_position,
        )

    @cached_property
    def bridge(self) -> Any:
        found = boot_bridge(self.model.checkpoint)
        found.set_use_split_qkv_input(True)
        found.set_use_attn_result(True)
        found.set_use_hook_mlp_in(True)
        return found

    def ours(self, _: int) -> np.ndarray:
        both = patching_of(
            self.model,
            self.clean,
            self.corrupted,
            first=self.first,
            start_year=self.start_year,
            year_ids=self.year_ids,
        )
        return self.without_positions(edge_effects(both))

    def without_positions(self, effects: EdgeEffects) -> np.ndarray:
        """Sums over positions [U, K], in the order of depth: per layer queries, keys, values, MLP; the logits last."""
        total = np.zeros((self.before(self.layers), self.inputs(self.layers) + 1))
        for position, found in zip(effects.layout.positions, effects.effects, strict=True):
            rows = [self._sender(node) for node in effects.senders(position)]
            columns = [self._input(node, slot) for node, slot in effects.layout.readers(position)]
            np.add.at(total, (np.array(rows)[:, None], np.array(columns)), found)
        return total

    def _sender(self, node: Node) -> int:
        if node.layer < 0:
            return 0
        return self.before(node.layer) + (self.heads if node.head is None else node.head)

    def _input(self, node: Node | None, slot: Slot) -> int:
        if node is None:
            return self.inputs(self.layers)
        within = 3 * self.heads if node.head is None else "qkv".index(slot) * self.heads + node.head
        return self.inputs(node.layer) + within

    def before(self, layer: int) -> int:
        """Senders before the layer: the embedding, heads and MLPs."""
        return 1 + layer * (self.heads + 1)

    def inputs(self, layer: int) -> int:
        """Inputs before the layer."""
        return layer * (3 * self.heads + 1)

    def peer(self, _: int) -> np.ndarray:
        before, after = self.written(self.clean), self.written(self.corrupted)
        change = torch.cat([one_01 - one for one_01, one in zip(after, before, strict=True)], 2)
        total = torch.zeros(change.shape[2], self.inputs(self.layers) + 1)
        for step in range(STEPS):
            between = torch.lerp(after[0], before[0], step / STEPS)[:, :, 0].requires_grad_()
            replaced = ("hook_embed", lambda _, hook, x=between: x)
            with self.bridge.hooks(fwd_hooks=[replaced], bwd_hooks=list(self.gradients(change, total))):
                logits = self.bridge(torch.as_tensor(self.clean, dtype=torch.long))
                self.measure(logits).backward()
            self.bridge.zero_grad()
        return total.numpy() / STEPS

    def measure(self, logits: torch.Tensor) -> torch.Tensor:
        """The mean probability difference."""
        signs = torch.as_tensor(np.where(later(self.start_year.tolist()), 1.0, -1.0)).to(logits)
        return (logits[:, -1].softmax(-1)[:, self.year_ids] * signs).sum(-1).mean()

    @torch.no_grad()
    def written(self, tokens: np.ndarray) -> list[torch.Tensor]:
        """What embedding, heads and MLPs write at all positions [P, T, _, d], in the order of depth."""
        found: list[torch.Tensor] = []

        def keep(out: torch.Tensor, hook: Any) -> None:
            found.append(out if out.ndim == 4 else out[:, :, None])

        names = [name for layer in range(self.layers) for name in
                 (f"blocks.{layer}.attn.hook_result", f"blocks.{layer}.hook_mlp_out")]  # fmt: skip
        hooks = [(name, keep) for name in ("hook_embed", *names)]
        self.bridge.run_with_hooks(torch.as_tensor(tokens, dtype=torch.long), fwd_hooks=hooks)
        return found

    def gradients(self, change: torch.Tensor, total: torch.Tensor) -> Iterator[tuple[str, Callable[..., None]]]:
        """Backward hooks that add the effects of the edges into an input."""

        def add(senders: int, first: int) -> Callable[..., None]:
            def hook(gradient: torch.Tensor, hook: Any) -> None:
                at = gradient if gradient.ndim == 4 else gradient[:, :, None]
                found = torch.einsum("ptud,ptkd->uk", change[:, :, :senders], at)
                total[:senders, first : first + at.shape[2]] += found

            return hook

        for layer in range(self.layers):
            senders, inputs = self.before(layer), self.inputs(layer)
            for place, slot in enumerate("qkv"):
                yield f"blocks.{layer}.hook_{slot}_input", add(senders, inputs + place * self.heads)
            yield f"blocks.{layer}.hook_mlp_in", add(senders + self.heads, inputs + 3 * self.heads)
        yield f"blocks.{self.layers - 1}.hook_resid_post", add(self.before(self.layers), self.inputs(self.layers))


def rows(setting: Setting) -> list[Row]:
    one = Edges(setting)
    one.bridge  # noqa: B018  loaded before the time is taken
    times, found = alternate(Turns(one.ours, one.peer, difference), pairs=PAIRS)
    senders, inputs = one.before(one.layers), one.inputs(one.layers) + 1
    compared = row(
        "eap-ig",
        times,
        work=f"EAP-IG, {STEPS} steps: effects of the edges from {senders} components to {inputs} inputs,"
        f" {PROMPTS} prompts; ours at each position",
        peer_is="hooks and a backward pass a step on a TransformerBridge, gradients of the weights included",
        found=found,
        tolerance=TOLERANCE,
        at_least=5,
        aim=10,
    )
    return [compared]
