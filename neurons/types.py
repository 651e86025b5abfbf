"""The words shared by every room: neuron names, ranges, errors, array aliases."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]
Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while a long computation goes on."""
Bars = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar of this label."""

Measure = Literal["contrast", "probability_difference", "cutoff_sharpness"]
Ablation = Literal["resample", "mean", "zero"]
Effect = Literal["total", "direct", "frozen"]
FileFormat = Literal["svg", "pdf", "png"]
"""Of a figure kept for a paper."""
Device = Literal["cpu", "cuda", "mps"]
"""Where a model runs."""


@contextmanager
def no_bars(label: str) -> Iterator[Progress]:
    """Progress that nobody sees."""
    yield lambda done, total: None


class NeuronsError(Exception):
    """What a user can be told in one line. `exit_code` is what the command ends with."""

    exit_code = 1


class InputError(NeuronsError):
    """What was asked for cannot be meant: an unknown neuron, a year outside the range."""

    exit_code = 2


class CheckpointError(NeuronsError):
    """A checkpoint that cannot be found, read or trusted."""


class DeviceError(NeuronsError):
    """A device that is not there, or whose numbers are wrong."""


class CacheError(NeuronsError):
    """A cache file that cannot be read, written or trusted."""


class OutputError(NeuronsError):
    """A report or figure that cannot be written."""


@dataclass(frozen=True, order=True)
class NeuronId:
    """One MLP neuron, written as in the field: `L9N12` is neuron 12 of layer 9."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}N{self.index}"

    __repr__ = __str__

    @classmethod
    def parse(cls, text: "str | NeuronId") -> "NeuronId":
        """Read `L9N12`; raises `InputError` for anything else."""
        if isinstance(text, NeuronId):
            return cls(text.layer, text.index)
        match = re.fullmatch(r"L(\d{1,4})N(\d{1,7})", text.strip(), flags=re.ASCII)
        if match is None:
            raise InputError(f"{text!r} is not a neuron: write layer and index like L9N12")
        return cls(int(match[1]), int(match[2]))


def parse_ranges(text: str, *, what: str) -> tuple[int, ...]:
    """Read `8-11` or `3,8-11` into ascending numbers without repeats.

    Raises `InputError`, naming `what` was being read, when the text is no such list or a range runs
    backwards.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip(), flags=re.ASCII)
        if match is None:
            raise InputError(f"{what} {text!r} is not a range: write it like 8-11 or 3,8-11")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"{what} {text!r} runs backwards: write {match[2]}-{match[1]} for {part.strip()}")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def parse_device(text: str) -> Device:
    """Read `cpu`, `cuda` or `mps`; raises `InputError` for anything else."""
    found: dict[str, Device] = {name: name for name in get_args(Device)}
    if text not in found:
        raise InputError(f"device {text!r} is unknown: choose {', '.join(found)}")
    return found[text]
