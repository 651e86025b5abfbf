"""Whether a device computes what the CPU computes, tried on a few prompts before its numbers are used.

Apple's MPS has returned wrong numbers without an error (TransformerLens issue 1178), so it is not trusted
untried: the year logits of prompts spread over nouns and start years are compared.
"""

import numpy as np
import torch
from jaxtyping import Float

from neurons.model.checkpoint import Model
from neurons.model.forward import run
from neurons.task.prompts import PromptSet, year_spans
from neurons.types import DeviceError

PROMPTS = 8
TOLERANCE = 1e-4
"""Of the largest year logit. Float32 on two devices differs by some 1e-6 of it; from 1e-4 up suspect a bug."""


def moved(model: Model, device: torch.device, *, is_tried: bool) -> Model:
    """The model on the device, compared with the CPU where it `is_tried`."""
    there = model.to(device)
    if is_tried:
        check_against(model, there)
    return there


def check_against(reference: Model, other: Model) -> None:
    """Raises `DeviceError`, saying by how much, where `other` gives other year logits than `reference`."""
    prompts = year_spans(reference.tokenizer, nouns=2)
    expected, found = (_year_logits(model, prompts) for model in (reference, other))
    largest = float(np.abs(expected).max())
    apart = float(np.abs(found - expected).max()) / largest
    if not apart <= TOLERANCE:  # not a number is wrong too
        raise DeviceError(
            f"device {other.device.type} gives wrong numbers here: year logits differ from the CPU's by {apart:.1e} of"
            f" the largest ({TOLERANCE:.0e} is allowed); leave out the device to run on the CPU"
        )


def _year_logits(model: Model, prompts: PromptSet) -> Float[np.ndarray, "P 100"]:
    some = prompts.tokens[np.linspace(0, len(prompts) - 1, PROMPTS).astype(int)]
    found = run(model, some, shared=prompts.year_position, layers=(), year_token_ids=prompts.year_token_ids)
    return found.year_logits.numpy(force=True)
