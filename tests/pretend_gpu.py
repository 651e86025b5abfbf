"""A GPU that is not there: tensors that say they lie on it, computed on the CPU, and that refuse what a GPU refuses.

A tensor on the CPU mixed with one on the GPU is an error, numbers leave it only by a copy to the CPU, and, as on
Apple's, there may be no float64. So code that forgets where the weights are fails here as it would there. What this
cannot show is speed, and how far a real GPU's rounding goes. An index given as a list or array reads garbage
here: torch makes it on the device itself, past the stand-in, so indices are made tensors first.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from neurons.model import checkpoint

HAS_DOUBLE = True
MOVES = {torch.ops.aten.to, torch.ops.aten._to_copy, torch.ops.aten.copy_}
MAY_TAKE_AN_INDEX_OF_THE_CPU = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}


class OnGpu(torch.Tensor):
    """A tensor of the CPU under the name of another device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> "OnGpu":
        with torch.inference_mode(False):  # else a view of what was made outside cannot be message from its base
            made: OnGpu = torch.Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=device,
            )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_there(func, args, kwargs or {})

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {self.device} device type tensor to numpy")
        return self.cpu().detach().numpy()


class PretendMode(TorchDispatchMode):
    """What is asked for on the device by name is made there too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_there(func, args, kwargs or {})


def run_there(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the CPU, its result where it would be."""
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [x for x in given if isinstance(x, OnGpu)]
    named = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.device)]
    if there and func.overloadpacket not in MOVES and func not in MAY_TAKE_AN_INDEX_OF_THE_CPU:
        strangers = [x for x in given if not isinstance(x, OnGpu) and x.dim() > 0]
        if strangers:
            raise RuntimeError(f"{func}: tensors on {there[0].device} and on the CPU, of shape {strangers[0].shape}")
    target = named[0] if named else _home(func, given, there)
    plain = tree_map_only(OnGpu, lambda x: x.held, (args, kwargs))
    plain = tree_map_only(torch.device, lambda _: torch.device("cpu"), plain)
    result = func(*plain[0], **plain[1])
    if target.type == "cpu":
        return result
    return tree_map_only(torch.Tensor, lambda x: _wrapped(x, target, there), result)


def _home(func: Any, given: list[torch.Tensor], there: list[OnGpu]) -> torch.device:
    """Where a result lies when no device is named: with the tensors given; `x.to(other)` goes to the other."""
    if func.overloadpacket in MOVES:
        return given[-1].device if func is torch.ops.aten.to.other else given[0].device
    return there[0].device if there else torch.device("cpu")


def _wrapped(x: torch.Tensor, device: torch.device, there: list[OnGpu]) -> torch.Tensor:
    if x.dtype == torch.float64 and not HAS_DOUBLE:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
    same = [one for one in there if one.held is x]  # an operation in place returns what it was given
    return same[0] if same else OnGpu(x, device)


@contextmanager
def pretend(*, has_double: bool = True) -> Iterator[None]:
    """Inside, `load_model` finds a device. It bears the name `meta`, the one that torch knows without a driver."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "find_device", lambda name: torch.device("cpu" if name == "cpu" else "meta"))
        patch.setattr(sys.modules[__name__], "HAS_DOUBLE", has_double)
        with PretendMode():
            yield
