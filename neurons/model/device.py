"""Where a model runs: the CPU, on how many threads, or a GPU; and the check that a GPU computes what the CPU computes.

Tensors are made where the weights are, and results come back as NumPy arrays. Apple's MPS has returned wrong numbers
without an error (TransformerLens issue 1178), so its year logits of a few prompts, over nouns and start years, are
compared with the CPU's before it is used.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.model.forward import run
from neurons.model.model import Model
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import Device, DeviceError, parse_device

Task = TypeVar("Task")
Result = TypeVar("Result")

SMALL = 1 << 19
"""Weights of an MLP's matrix up to which threads that share a product mostly wait for each other."""
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


def is_small(model: Model) -> bool:
    """Whether its products are too small to be shared between threads."""
    return model.config.d_model * model.config.d_mlp <= SMALL


def on_threads(
    model: Model, function: Callable[[Task], Iterator[Result]], tasks: Sequence[Task], *, of_any_size: bool = False
) -> Iterator[Result]:
    """Yield all that `function` yields of each task, in their order.

    Products of a small model on the CPU are too small to be shared between threads: as many tasks as torch has threads
    run at once, each on one, and give what they give one after the other. The caller's modes (gradients, inference)
    hold in the tasks. of_any_size: those of a large model are too, and its tasks need little memory.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(tasks) < 2 or not (of_any_size or is_small(model)) or model.device.type != "cpu":
        for task in tasks:
            yield from function(task)
        return
    inference, gradient = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run_whole(task: Task) -> list[Result]:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradient):
            return list(function(task))

    waiting: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(run_whole, task))
                if len(waiting) > threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # else threads that start later have one


def in_double(x: Tensor) -> Tensor:
    """In float64: where the tensor is, or on the CPU where its device has none (Apple's)."""
    try:
        return x.double()
    except TypeError:
        return x.cpu().double()
