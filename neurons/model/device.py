"""Where a model runs: the CPU, or a GPU where one is there.

The same code runs everywhere: tensors are made where the weights are, and results come back as NumPy arrays.
"""

import torch
from torch import Tensor

from neurons.types import Device, DeviceError, parse_device

NAMES = {"cuda": "NVIDIA GPU", "mps": "Apple GPU"}


def find_device(name: Device) -> torch.device:
    """Raises `InputError` for a name that is no device's, `DeviceError` where this machine has none such."""
    if parse_device(name) != "cpu" and not _is_there(name):
        raise DeviceError(
            f"device {name} is not there: torch {torch.__version__} finds no {NAMES[name]} on this machine; leave"
            " out the device to run on the CPU"
        )
    return torch.device(name)


def _is_there(name: str) -> bool:
    return torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()


def in_double(x: Tensor) -> Tensor:
    """In float64: where the tensor is, or on the CPU where its device has none (Apple's)."""
    try:
        return x.double()
    except TypeError:
        return x.cpu().double()
