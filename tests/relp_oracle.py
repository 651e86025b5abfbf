"""A Hugging Face GPT-2 made linear in what its neurons write: scales, attention patterns and ratios act(x)/x frozen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class FrozenNorm(torch.nn.Module):
    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        scale = (x.var(-1, unbiased=False, keepdim=True) + self.norm.eps).sqrt().detach()
        return (x - x.mean(-1, keepdim=True)) / scale * self.norm.weight + self.norm.bias


class FrozenRatio(torch.nn.Module):
    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.act(x) / x).detach()


@contextmanager
def frozen_parts(stack: Any) -> Iterator[None]:
    """For as long as this is open; the modules stay replaced, so the model is of no other use after it."""
    for block in stack.h:
        block.ln_1, block.ln_2 = FrozenNorm(block.ln_1), FrozenNorm(block.ln_2)
        block.mlp.act = FrozenRatio(block.mlp.act)
    stack.ln_f = FrozenNorm(stack.ln_f)
    softmax = torch.nn.functional.softmax
    torch.nn.functional.softmax = lambda *args, **kw: softmax(*args, **kw).detach()
    try:
        yield
    finally:
        torch.nn.functional.softmax = softmax
