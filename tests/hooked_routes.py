"""The oracle of the tests of routes: the whole Hugging Face model, a change put into one reader by a plain hook.

A route of a share is the derivative of the measure when what the neuron adds is added once more, to what one reader
reads and to nothing else. A route of a total effect is taken from what each module writes in two runs. Nothing here is
shared with the code under test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hooked_shares import HookedShares
from torch import Tensor

from neurons.types import NeuronId

Hook = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class HookedRoutes:
    shares: HookedShares
    measure: str

    @property
    def hf(self) -> Any:
        return self.shares.hf

    def w_out(self, neuron: NeuronId) -> Tensor:
        return self.hf.transformer.h[neuron.layer].mlp.c_proj.weight[neuron.index].detach()

    def of_share(
        self, neuron: NeuronId, reader: str, layer: int, tokens: np.ndarray, others: np.ndarray, year: np.ndarray,
        nodes: list[tuple[float, float]], *, receiver: int | None = None,
    ) -> Tensor:  # fmt: skip
        """One route of a share [P]. reader: frozen, final, attention or mlp (of a layer); receiver: a neuron of it."""
        other = self.shares.post(others)
        found = torch.zeros(len(tokens), dtype=torch.float64)
        for alpha, weight in nodes:
            once_more = torch.zeros(len(tokens), dtype=torch.float64, requires_grad=True)
            state: dict[str, Tensor] = {}
            handles = [self._keep_away(neuron, other, once_more, state)]
            handles += self._into(reader, layer, receiver, state)
            masks = {at: torch.full_like(other[at], alpha) for at in self.shares.layers}
            value = self.shares.values(self.measure, tokens, year, masks, other).sum()
            for handle in handles:
                handle.remove()
            found += weight * torch.autograd.grad(value, once_more)[0]
        return found

    def _keep_away(
        self, neuron: NeuronId, other: dict[int, Tensor], once_more: Tensor, state: dict[str, Tensor]
    ) -> Any:
        def keep(_: Any, __: Any, out: Tensor) -> None:
            away = (out[:, -1] - other[neuron.layer])[:, neuron.index].detach()
            state["added"] = (once_more * away)[:, None] * self.w_out(neuron)

        return self.hf.transformer.h[neuron.layer].mlp.act.register_forward_hook(keep)

    def _into(self, reader: str, layer: int, receiver: int | None, state: dict[str, Tensor]) -> list[Any]:
        def add(_: Any, x: tuple[Tensor]) -> tuple[Tensor]:
            return (_at_end(x[0], x[0][:, -1] + state["added"]),)

        block, last = self.hf.transformer.h[layer], self.hf.transformer.ln_f
        if receiver is not None:
            return [block.ln_2.register_forward_pre_hook(lambda _, x: state.update(read=x[0][:, -1])),
                    block.mlp.c_fc.register_forward_hook(_into_one(block, receiver, state))]  # fmt: skip
        if reader == "frozen":
            return [last.register_forward_hook(_frozen(state))]
        module = {"final": last, "attention": block.ln_1, "mlp": block.ln_2}[reader]
        return [module.register_forward_pre_hook(add)]

    # --- total effects ------------------------------------------------------------------------------

    def of_effect(
        self, neuron: NeuronId, tokens: np.ndarray, others: np.ndarray, year: np.ndarray, receivers: list[NeuronId],
        nodes: list[tuple[float, float]],
    ) -> dict[str, Tensor]:  # fmt: skip
        """Each part of a total effect [P]: own with the scale frozen, own through it, attention, neurons, each edge."""
        held = self.shares.post(others)[neuron.layer][:, neuron.index]
        clean, (changed, value) = self._writes(tokens, year)[0], self._writes(tokens, year, neuron, held)
        moved = {name: changed[name] - clean[name] for name in clean}
        own = moved[f"post{neuron.layer}"][:, neuron.index, None] * self.w_out(neuron)
        later = range(neuron.layer + 1, len(self.hf.transformer.h))
        parts = {"own": own, "attention": sum((moved[f"attention{at}"] for at in later), torch.zeros_like(own)),
                 "neurons": sum((moved[f"mlp{at}"] for at in later), torch.zeros_like(own))}  # fmt: skip
        parts |= {str(j): moved[f"post{j.layer}"][:, j.index, None] * self.w_out(j) for j in receivers}
        found = {name: torch.zeros(len(tokens), dtype=torch.float64) for name in (*parts, "direct")}
        for at, weight in nodes:
            x = clean["final"] + at * moved["final"]
            for name, part in parts.items():
                found[name] += weight * self._along(x, part, year, frozen=False)
            found["direct"] += weight * self._along(x, own, year, frozen=True)
        return found | {"scale": found["own"] - found["direct"], "total": value - self._writes(tokens, year)[1]}

    def _along(self, x: Tensor, part: Tensor, year: np.ndarray, *, frozen: bool) -> Tensor:
        once_more = torch.zeros(len(x), dtype=torch.float64, requires_grad=True)
        last, added = self.hf.transformer.ln_f, once_more[:, None] * part
        normed = last(x) + _linear(last, x, added) if frozen else last(x + added)
        value = self.shares._measure(self.measure, self.hf.lm_head(normed), year)
        return torch.autograd.grad(value.sum(), once_more)[0]

    @torch.no_grad()
    def _writes(
        self, tokens: np.ndarray, year: np.ndarray, neuron: NeuronId | None = None, held: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What every module writes at END, and the measure; one neuron held at other values."""
        found: dict[str, Tensor] = {}
        handles = [self.hf.transformer.ln_f.register_forward_pre_hook(lambda _, x: found.update(final=x[0][:, -1]))]
        if neuron is not None:

            def hold(_: Any, __: Any, out: Tensor) -> Tensor:
                out = out.clone()
                out[:, -1, neuron.index] = held
                return out

            handles.append(self.hf.transformer.h[neuron.layer].mlp.act.register_forward_hook(hold))
        for at, block in enumerate(self.hf.transformer.h):
            for name, module in (("attention", block.attn), ("mlp", block.mlp), ("post", block.mlp.act)):
                handles.append(module.register_forward_hook(_kept(found, f"{name}{at}")))
        value = self.shares._measure(self.measure, self.shares._logits(tokens), year)
        for handle in handles:
            handle.remove()
        return found, value


def _kept(found: dict[str, Tensor], name: str) -> Hook:
    def keep(_: Any, __: Any, out: Any) -> None:
        found[name] = (out[0] if isinstance(out, tuple) else out)[:, -1].clone()

    return keep


def _at_end(x: Tensor, last: Tensor) -> Tensor:
    return torch.cat([x[:, :-1], last[:, None]], 1)


def _linear(norm: Any, x: Tensor, added: Tensor) -> Tensor:
    """What a LayerNorm gives for something added while its scale stays that of x."""
    scale = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    return (added - added.mean(-1, keepdim=True)) / scale * norm.weight


def _frozen(state: dict[str, Tensor]) -> Hook:
    def hook(norm: Any, x: tuple[Tensor], out: Tensor) -> Tensor:
        return _at_end(out, out[:, -1] + _linear(norm, x[0][:, -1], state["added"]))

    return hook


def _into_one(block: Any, receiver: int, state: dict[str, Tensor]) -> Hook:
    def hook(c_fc: Any, _: Any, out: Tensor) -> Tensor:
        read, norm = state["read"] + state["added"], block.ln_2
        again = F.layer_norm(read, read.shape[-1:], norm.weight, norm.bias, norm.eps) @ c_fc.weight + c_fc.bias
        last = torch.cat([out[:, -1, :receiver], again[:, receiver, None], out[:, -1, receiver + 1 :]], -1)
        return _at_end(out, last)

    return hook
