"""The oracle of edge attribution: a plain float64 forward to which a hook at every edge adds a tensor of zeros.

The gradient with respect to what a hook adds is that of the edge's input, taken by autograd through whole runs. Every
head reads a residual of its own for its query, and for the key and the value that each position sees at each other.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurons.circuit.graph import Edge


class EdgeOracle:
    """hf: a Hugging Face GPT-2 in float64, only its weights are used. positions: names of the last ones, with END."""

    def __init__(self, hf: Any, positions: tuple[str, ...], year_ids: np.ndarray) -> None:
        self.hf, self.heads = hf, hf.config.n_head
        self.year_ids, self.positions = torch.as_tensor(year_ids), positions

    def run(self, embedded: Tensor, added: Mapping[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits at END, and what the embedding, each head and each MLP write [P, T, d]."""
        x, written, T = embedded, {"embed": embedded}, embedded.shape[1]
        zero = torch.zeros((), dtype=torch.float64)
        at = dict(added or {})
        mask = torch.ones(T, T, dtype=torch.bool).tril()
        for layer, block in enumerate(self.hf.transformer.h):
            W = block.attn.c_attn.weight.unflatten(1, (3, self.heads, -1))
            b = block.attn.c_attn.bias.unflatten(0, (3, self.heads, -1))
            q = torch.einsum("phrd,dhe->phre", block.ln_1(x[:, None] + at.get(f"{layer}q", zero)), W[:, 0])
            k = torch.einsum("phrtd,dhe->phrte", block.ln_1(x[:, None, None] + at.get(f"{layer}k", zero)), W[:, 1])
            v = torch.einsum("phrtd,dhe->phrte", block.ln_1(x[:, None, None] + at.get(f"{layer}v", zero)), W[:, 2])
            q, k, v = q + b[0, :, None], k + b[1, :, None, None], v + b[2, :, None, None]
            scores = torch.einsum("phre,phrte->phrt", q, k.expand(-1, -1, T, -1, -1)) / q.shape[-1] ** 0.5
            pattern = scores.masked_fill(~mask, -torch.inf).softmax(-1)
            z = torch.einsum("phrt,phrte->phre", pattern, v.expand(-1, -1, T, -1, -1))
            wrote = torch.einsum("phre,hed->hprd", z, block.attn.c_proj.weight.unflatten(0, (self.heads, -1)))
            written |= {f"a{layer}.h{head}": one for head, one in enumerate(wrote)}
            x = x + wrote.sum(0) + block.attn.c_proj.bias
            written[f"m{layer}"] = block.mlp(block.ln_2(x + at.get(f"{layer}in", zero)))
            x = x + written[f"m{layer}"]
        final = self.hf.transformer.ln_f(x[:, -1] + at.get("logits", zero))
        return F.linear(final, self.hf.lm_head.weight), written

    def embed(self, tokens: np.ndarray) -> Tensor:
        T = tokens.shape[1]
        return self.hf.transformer.wte(torch.as_tensor(tokens)) + self.hf.transformer.wpe(torch.arange(T))

    def gradients(self, embedded: Tensor, start_year: np.ndarray, weights: np.ndarray) -> dict[str, Tensor]:
        """Of the weighted mean of the probability difference, with respect to what is added at each input."""
        P, T, d = embedded.shape
        added = {"logits": torch.zeros(P, d)}
        for layer in range(len(self.hf.transformer.h)):
            added |= {f"{layer}q": torch.zeros(P, self.heads, T, d), f"{layer}in": torch.zeros(P, T, d)}
            added |= {f"{layer}{slot}": torch.zeros(P, self.heads, T, T, d) for slot in "kv"}
        added = {name: one.double().requires_grad_() for name, one in added.items()}
        p = self.run(embedded, added)[0].softmax(-1)[:, self.year_ids]
        signs = torch.as_tensor(np.where(np.arange(100) > start_year[:, None], 1.0, -1.0))
        metric = ((p * signs).sum(1) * torch.as_tensor(weights)).sum()
        return dict(zip(added, torch.autograd.grad(metric, list(added.values())), strict=True))

    def effects(
        self, tokens: np.ndarray, tokens_01: np.ndarray, start_year: np.ndarray, weights: np.ndarray, *, steps: int
    ) -> "EdgeScores":
        clean, other = self.embed(tokens).detach(), self.embed(tokens_01).detach()
        with torch.no_grad():
            wrote, wrote_01 = self.run(clean)[1], self.run(other)[1]
        change = {name: wrote_01[name] - wrote[name] for name in wrote}
        total: dict[str, Tensor] = {}
        for step in range(steps):
            between = other + step / steps * (clean - other) if steps > 1 else clean
            for name, gradient in self.gradients(between, start_year, weights).items():
                total[name] = total.get(name, 0) + gradient / steps
        return EdgeScores(change, total, {name: i - len(self.positions) for i, name in enumerate(self.positions)})


class EdgeScores:
    def __init__(self, change: dict[str, Tensor], gradient: dict[str, Tensor], at: dict[str, int]) -> None:
        self.change, self.gradient, self.at = change, gradient, at

    def of(self, edge: Edge) -> float:
        here = self.at[edge.sender.position]
        change = self.change[edge.sender.component][:, here]
        if edge.receiver is None:
            return float((change * self.gradient["logits"]).sum())
        read = self.gradient[f"{edge.receiver.layer}{edge.slot}"]
        if edge.receiver.head is None:
            return float((change * read[:, here]).sum())
        read = read[:, edge.receiver.head, self.at[edge.receiver.position]]
        return float((change * (read if edge.slot == "q" else read[:, here])).sum())
