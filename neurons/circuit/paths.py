"""Path patching, exact: what reaches the answer along chosen edges when everything else stays at its base value.

1. Two runs of each prompt are kept: `base`, and `other` whose values are sent along the edges. To ask what a path
   carries, base is the clean run and other the corrupted run; to keep a circuit alone, the other way round.
2. A component's input is a residual sum, so what an edge brings is added to it and the receiver alone runs
   again (`Patching.again`).
3. `Patching.follow` carries changes along edges, component by component in the order of depth, to the final
   residual, where the final LayerNorm runs again. What no edge reaches stays at its base value.

Thousands of paths are compared by the probability difference among the 100 years: the published measure, but
with the softmax over the years alone, because the full vocabulary would cost 500 times as much for each path.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.circuit.graph import Edge, Layout, Node, Slot, layout
from neurons.circuit.results import PROMPTS
from neurons.intervention.context import AblationContext
from neurons.model.forward import year_logits
from neurons.model.model import Model, post_activation
from neurons.model.rerun import PositionTrace, head_again, head_write, heads_input, mlp_again, mlp_output, trace_from
from neurons.task.years import later
from neurons.types import InputError

ROWS = 2048
"""Variants times prompts in one pass: full matrix speed, activations of some 25 MB in GPT-2 small."""

Changes = Mapping[tuple[Slot, str], Float[Tensor, "n P d"]]
"""What is added to the residual that an input reads, by input and position."""


@dataclass(frozen=True, eq=False)
class Patching:
    """P prompts in two runs. averaging [P]: weights of the mean over the prompts of a start year, then over years."""

    model: Model
    layout: Layout
    base: PositionTrace
    other: PositionTrace
    start_year: Int[np.ndarray, " P"]
    averaging: Float[np.ndarray, " P"]
    year_ids: Int[Tensor, "100"]

    def __len__(self) -> int:
        return len(self.start_year)

    def swapped(self) -> "Patching":
        """Exchange the two runs."""
        return replace(self, base=self.other, other=self.base)

    def change(self, node: Node) -> Float[Tensor, "P d"]:
        """Return what the node writes in the other run, minus what it writes in base."""
        at = self.layout.at(node.position)
        if node.layer < 0:
            return self.other.pre[0][:, at] - self.base.pre[0][:, at]
        if node.head is None:
            return mlp_output(self.other, node.layer, at) - mlp_output(self.base, node.layer, at)
        z = self.other.z[node.layer][:, at, node.head] - self.base.z[node.layer][:, at, node.head]
        return head_write(self.model, node.layer, node.head, z)

    def whole_input(self, receiver: Node, position: str) -> Float[Tensor, "P d"]:
        """Return all that the receiver reads at the position in the other run, minus what it reads there in base."""
        at = self.layout.at(position)
        kind = "mid" if receiver.head is None else "pre"
        return getattr(self.other, kind)[receiver.layer][:, at] - getattr(self.base, kind)[receiver.layer][:, at]

    def again(self, node: Node, changes: Changes) -> Float[Tensor, "n P d"]:
        """Return the change of the node's output when its inputs change; nothing else runs."""
        if node.head is None:
            at = self.layout.at(node.position)
            before = self._activations(node.layer, at)
            return mlp_again(self.model, self.base, node.layer, at, changes["in", node.position], before=before)
        return self.head_reading(node, {key: self.read(node.layer, key[1], added) for key, added in changes.items()})

    def _activations(self, layer: int, at: int) -> Float[Tensor, "P N"]:
        """Of an MLP in base, computed once: a third of what running it again takes."""
        known = self._known_activations
        if (layer, at) not in known:
            known[layer, at] = post_activation(self.model, layer, self.base.mid[layer][:, at])
        return known[layer, at]

    @cached_property
    def _known_activations(self) -> dict[tuple[int, int], Tensor]:
        return {}

    def read(self, layer: int, position: str, added: Float[Tensor, "n P d"]) -> Float[Tensor, "n P d"]:
        """Return what all heads of a layer read at a position, normalised, when the residual changes."""
        return heads_input(self.model, self.base, layer, self.layout.at(position), added)

    def head_reading(self, node: Node, normed: Changes) -> Float[Tensor, "n P d"]:
        """Return the change of a head's output when it reads these."""
        assert node.head is not None
        reads: dict[str, dict[int, Tensor]] = {"q": {}, "k": {}, "v": {}}
        for (slot, position), value in normed.items():
            reads[slot][self.layout.at(position)] = value
        at = self.layout.at(node.position)
        return head_again(
            self.model, self.base, node.layer, node.head, at,
            query=reads["q"].get(at), keys=reads["k"], values=reads["v"],
        )  # fmt: skip

    def follow(self, start: Mapping[Node, Float[Tensor, "n P d"]], edges: Iterable[Edge]) -> Float[Tensor, "n P d"]:
        """Return the change of the final residual when the nodes of `start` write something else, along the edges
        alone.

        A node of `start` is not run again, whatever reaches it.
        """
        written = dict(start)
        into: dict[Node | None, list[Edge]] = {}
        for edge in edges:
            into.setdefault(edge.receiver, []).append(edge)
        for node in sorted((n for n in into if n is not None and n not in start), key=depth_first):
            changes = _gather(into[node], written)
            if changes:
                written[node] = self.again(node, changes)
        arriving = [written[edge.sender] for edge in into.get(None, []) if edge.sender in written]
        return sum(arriving, start=torch.zeros_like(next(iter(start.values()))))

    def year_logits(self, change: Float[Tensor, "n P d"]) -> Float[Tensor, "n P 100"]:
        """Return the year logits when `change` is added to base's final residual, the final LayerNorm run again."""
        return year_logits(self.model, self.base.final + change, self.year_ids)

    def difference(self, change: Float[Tensor, "n P d"]) -> Float[np.ndarray, " n"]:
        """Return the mean probability difference among the years when `change` is added to base's final residual."""
        p = self.year_logits(change).softmax(-1)
        return torch.einsum("npy,py->np", p, self.signs).numpy(force=True).astype(float) @ self.averaging

    @cached_property
    def base_difference(self) -> float:
        return float(self.difference(torch.zeros_like(self.base.final)[None])[0])

    @cached_property
    def whole(self) -> float:
        """Return the probability difference among the years in the other run minus that in base: what there is to
        explain.
        """
        return float(self.difference((self.other.final - self.base.final)[None])[0]) - self.base_difference

    @cached_property
    def signs(self) -> Float[Tensor, "P 100"]:
        signs = np.where(later(self.start_year.tolist()), 1.0, -1.0)
        return torch.as_tensor(signs).to(self.base.final)

    @torch.inference_mode()
    def path_effects(
        self, senders: Sequence[Node], receiver: Node | None, slot: Slot, onward: Sequence[Edge]
    ) -> Float[np.ndarray, " n"]:
        """Return the change of the probability difference when each sender's other value goes into one input of the
        receiver, and from there along the `onward` edges; the receiver None is the logits.
        """
        size = max(1, ROWS // len(self))
        parts = [senders[i : i + size] for i in range(0, len(senders), size)]
        return np.concatenate(
            [self.difference(self.path_change(part, receiver, slot, onward)) - self.base_difference for part in parts]
        )

    @torch.inference_mode()
    def path_change(
        self, senders: Sequence[Node], receiver: Node | None, slot: Slot, onward: Sequence[Edge]
    ) -> Float[Tensor, "n P d"]:
        """Return the change of the final residual along each of these paths. The senders stand at one position."""
        added = torch.stack([self.change(node) for node in senders])
        return self._through(added, senders[0].position, receiver, slot, onward)

    @torch.inference_mode()
    def input_effect(self, receiver: Node, slot: Slot, position: str, onward: Sequence[Edge]) -> float:
        """Return the same when everything that one input reads at a position comes from the other run."""
        added = self.whole_input(receiver, position)[None]
        return float(self.difference(self._through(added, position, receiver, slot, onward))[0]) - self.base_difference

    @torch.inference_mode()
    def node_effects(self, nodes: Sequence[Node], edges: Sequence[Edge]) -> Float[np.ndarray, " n"]:
        """Return the same when each node writes its other value, along all the edges."""
        found = [self.difference(self.follow({node: self.change(node)[None]}, edges))[0] for node in nodes]
        return np.array(found) - self.base_difference

    @torch.inference_mode()
    def neuron_effects(self, layer: int) -> Float[np.ndarray, " N"]:
        """Return the same for each neuron of a layer alone, at END, on its direct path to the logits."""
        after, before = (post_activation(self.model, layer, run.mid[layer][:, -1]) for run in (self.other, self.base))
        amount, write = (after - before).T, self.model.blocks[layer].W_out
        size = max(1, ROWS // len(self))
        parts = [slice(i, i + size) for i in range(0, len(write), size)]
        found = [self.difference(amount[part, :, None] * write[part, None]) for part in parts]
        return np.concatenate(found) - self.base_difference

    def _through(
        self,
        added: Float[Tensor, "n P d"],
        position: str,
        receiver: Node | None,
        slot: Slot,
        onward: Sequence[Edge],
    ) -> Float[Tensor, "n P d"]:
        if receiver is None:
            return added
        return self.follow({receiver: self.again(receiver, {(slot, position): added})}, onward)


def _gather(edges: Sequence[Edge], written: Mapping[Node, Tensor]) -> dict[tuple[Slot, str], Tensor]:
    """What the edges into one node bring to each of its inputs."""
    changes: dict[tuple[Slot, str], Tensor] = {}
    for edge in edges:
        if edge.sender in written:
            at = edge.slot, edge.sender.position
            changes[at] = changes[at] + written[edge.sender] if at in changes else written[edge.sender]
    return changes


def depth_first(node: Node) -> tuple[int, int]:
    """Sorts nodes so that each comes after all that it can read."""
    return node.order, -1 if node.head is None else node.head


def patching(ctx: AblationContext, *, prompts: int = PROMPTS) -> Patching:
    """Run some of a context's prompts twice: as many of each start year as `prompts` allows, at least one,
    with nouns that differ from one start year to the next.

    Raises `InputError` if fewer prompts are asked for than there are start years.
    """
    rows = ctx.rows[_spread(ctx, prompts)]
    return patching_of(
        ctx.model,
        ctx.tokens[rows],
        ctx.counterfactual_tokens[ctx.cache.counterfactual[rows]],
        first=ctx.shared,
        start_year=ctx.cache.start_year[rows],
        year_ids=ctx.year_ids,
    )


def patching_of(
    model: Model,
    tokens: Int[np.ndarray, "P T"],
    tokens_01: Int[np.ndarray, "P T"],
    *,
    first: int,
    start_year: Int[np.ndarray, " P"],
    year_ids: Int[np.ndarray, "100"],
) -> Patching:
    """Run prompts and their 01-counterfactuals, which differ only at position `first`, that of YY."""
    distinct, which = np.unique(tokens_01, axis=0, return_inverse=True)
    _, year, size = np.unique(start_year, return_inverse=True, return_counts=True)
    return Patching(
        model=model,
        layout=layout(model.config.n_layers, model.config.n_heads, tokens.shape[1] - first),
        base=trace_from(model, tokens, first=first),
        other=trace_from(model, distinct, first=first).of_rows(which.reshape(-1)),
        start_year=start_year,
        averaging=1 / (len(size) * size[year]),
        year_ids=torch.as_tensor(year_ids, dtype=torch.long, device=model.device),
    )


def _spread(ctx: AblationContext, prompts: int) -> Int[np.ndarray, " n"]:
    """Rows of the experiment: the same number for each start year, walking through the nouns."""
    each = prompts // len(ctx.start_years)
    if each < 1:
        raise InputError(
            f"{prompts} prompts asked for: {len(ctx.start_years)} start years need at least one each"
            " (fewer years give fewer)"
        )
    chosen = []
    for place, year in enumerate(ctx.start_years):
        rows = np.flatnonzero(ctx.start_year == year)
        steps = (place * each + np.arange(min(each, len(rows)))) % len(rows)
        chosen.append(rows[steps])
    return np.sort(np.concatenate(chosen))
