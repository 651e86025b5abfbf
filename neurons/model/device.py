"""Where a model runs: the CPU, or a GPU; and the check that the device computes what the CPU computes.

Tensors are made where the weights are, and results come back as NumPy arrays. Apple's MPS has returned wrong numbers
without an error (TransformerLens issue 1178), so its year logits of a few prompts, over nouns and start years, are
compared with the CPU's before it is used.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.model.forward import run
from neurons.model.model import Model
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import Device, DeviceError, parse_device

NAMES = {"cuda": "NVIDIA GPU", "mps": "Apple GPU"}
CHECK_PROMPTS = 8
TOLERANCE = 1e-4
"""Of the largest year logit. Float32 on two devices differs by some 1e-6 of it; from 1e-4 up suspect a bug."""


def find_device(name: Device) -> torch.device:
    """Return the device of that name; raises `InputError` for an unknown name, `DeviceError` if it is not available."""
    if parse_device(name) != "cpu" and not _is_there(name):
        raise DeviceError(
            f"device {name} is not available: torch {torch.__version__} finds no {NAMES[name]} on this machine; leave"
            " out the device to run on the CPU"
        )
    return torch.device(name)


def _is_there(name: str) -> bool:
    return torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()


def moved(model: Model, device: torch.device, *, is_tried: bool) -> Model:
    """Move the model to the device; where it `is_tried`, compare it there with the CPU."""
    there = model.to(device)
    if is_tried:
        check_against(model, there)
    return there


def check_against(reference: Model, other: Model) -> None:
    """Raise `DeviceError`, with the difference, where the year logits of `other` differ from those of `reference`."""
    prompts = year_spans(reference.tokenizer, nouns=2, centuries="draw")
    expected, found = (_year_logits(model, prompts) for model in (reference, other))
    largest = float(np.abs(expected).max())
    apart = float(np.abs(found - expected).max()) / largest
    if not apart <= TOLERANCE:  # not a number is wrong too
        raise DeviceError(
            f"device {other.device.type} gives wrong numbers here: year logits differ from the CPU's by {apart:.1e} of"
            f" the largest ({TOLERANCE:.0e} is allowed); leave out the device to run on the CPU"
        )


def _year_logits(model: Model, prompts: PromptSet) -> Float[np.ndarray, "P 100"]:
    some = prompts.tokens[np.linspace(0, len(prompts) - 1, CHECK_PROMPTS).astype(int)]
    found = run(model, some, shared=prompts.year_position, layers=(), year_token_ids=prompts.year_token_ids)
    return found.year_logits.numpy(force=True)


def in_double(x: Tensor) -> Tensor:
    """In float64: where the tensor is, or on the CPU where its device has none (Apple's)."""
    try:
        return x.double()
    except TypeError:
        return x.cpu().double()
