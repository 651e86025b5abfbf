"""Words shared by every floor: names of neurons, ranges, errors, array aliases, and checks of arguments."""

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]
Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while a long computation goes on."""
Bars = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar of this label."""

Measure = Literal["contrast", "probability_difference", "cutoff_sharpness", "logit_step"]
Ablation = Literal["random-year", "resample", "mean", "zero"]
OF_LOGITS: tuple[Measure, ...] = ("contrast", "logit_step")
"""Measures linear in the year logits, in logits; the others are in probabilities."""
Effect = Literal["total", "direct", "frozen"]
FileFormat = Literal["svg", "pdf", "png"]
"""File format of a figure for a paper."""
Device = Literal["cpu", "cuda", "mps"]
"""Where a model runs."""

MOST_RESAMPLES = 100_000


@contextmanager
def no_bars(label: str) -> Iterator[Progress]:
    """Report progress to nobody."""
    yield lambda done, total: None


class NeuronsError(Exception):
    """An error that one line explains to the user. `exit_code` is the command's exit code."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(" ".join(message.splitlines()))


class InputError(NeuronsError):
    """Invalid input: an unknown neuron, a year outside the range."""

    exit_code = 2


class CheckpointError(NeuronsError):
    """A checkpoint that cannot be found, read or trusted."""


class DeviceError(NeuronsError):
    """A device that is not available, or whose numbers are wrong."""


class CacheError(NeuronsError):
    """A cache file that cannot be read, written or trusted."""


class OutputError(NeuronsError):
    """A report or figure that cannot be written."""


@dataclass(frozen=True, order=True)
class NeuronId:
    """One MLP neuron, written as in the field: `L9N12` is neuron 12 of layer 9."""

    layer: int
    index: int

    def __post_init__(self) -> None:
        check_whole("layer", self.layer, least=0)
        check_whole("index", self.index, least=0)

    def __str__(self) -> str:
        return f"L{self.layer}N{self.index}"

    __repr__ = __str__

    @classmethod
    def parse(cls, text: "str | NeuronId") -> "NeuronId":
        """Read `L9N12`; raises `InputError` for anything else."""
        if isinstance(text, NeuronId):
            return cls(text.layer, text.index)
        match = re.fullmatch(r"L(\d{1,4})N(\d{1,7})", text.strip(), flags=re.ASCII) if isinstance(text, str) else None
        if match is None:
            raise InputError(f"invalid neuron {quoted(text)}: write layer and index, like L9N12")
        return cls(int(match[1]), int(match[2]))


Neurons = str | NeuronId | Iterable[str | NeuronId]
"""Neurons as a user names them; a single name is one neuron."""


def parse_neurons(neurons: Neurons) -> tuple[NeuronId, ...]:
    """Return the neurons named, in their order and without repeats; raises `InputError` for an invalid name."""
    named = (neurons,) if isinstance(neurons, str | NeuronId) else elements("neurons", neurons, "names like L9N12")
    return tuple(dict.fromkeys(map(NeuronId.parse, named)))


def parse_ranges(text: str, *, what: str) -> tuple[int, ...]:
    """Read `8-11` or `3,8-11` into ascending numbers without repeats.

    what: the name of the argument, for the error. Raises `InputError` for another text, or for a range whose first
    number exceeds its last.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip(), flags=re.ASCII)
        if match is None:
            raise InputError(f"invalid {what} {text!r}: write a range like 8-11 or 3,8-11")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            example = f"{match[2]}-{match[1]}"
            raise InputError(
                f"invalid {what} {text!r}: the first number must not exceed the last (for example {example})"
            )
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def parse_device(text: str) -> Device:
    """Read `cpu`, `cuda` or `mps`; raises `InputError` for anything else."""
    device: Device = check_choice("device", text, Device)
    return device


def quoted(given: object) -> str:
    """Show an invalid argument in an error: short, and on one line."""
    return " ".join(reprlib.repr(given).split())


def check_choice(what: str, given: object, choices: Any) -> Any:
    """Return `given`, one of a `Literal`'s words; raises `InputError` listing them for anything else."""
    names = get_args(choices)
    if not isinstance(given, str) or given not in names:
        raise InputError(f"{what} {quoted(given)} is unknown: choose {', '.join(names)}")
    return given


def check_is(what: str, given: object, kind: Any, how: str) -> None:
    """Raise `InputError` for an argument of another type; `how` states what it must be and where it comes from."""
    if not isinstance(given, kind):
        raise InputError(f"{what} must be {how}, not {quoted(given)}")


def check_progress(given: object) -> None:
    """Raise `InputError` for a progress callback that is not callable."""
    if given is not None and not callable(given):
        raise InputError(f"progress must be a function of (done, total), not {quoted(given)}")


def check_resamples(given: object) -> None:
    """Raise `InputError` for an invalid number of bootstrap resamples, or more than any memory holds."""
    check_whole("resamples", given, least=1, most=MOST_RESAMPLES)


def check_whole(what: str, given: object, *, least: int | None = None, most: int | None = None) -> int:
    """Return a whole number as an int, NumPy's too; raises `InputError` for another type or one out of range."""
    limits = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
    is_whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not is_whole or (least is not None and given < least) or (most is not None and given > most):  # type: ignore[operator]
        raise InputError(f"{what} must be a whole number{limits}, not {quoted(given)}")
    return int(given)  # type: ignore[call-overload]


def check_wholes(what: str, given: object, like: str) -> tuple[int, ...]:
    """Return whole numbers as ints; raises `InputError`, with an example, for a single one, a text or another type."""
    return tuple(check_whole(what, one) for one in elements(what, given, f"whole numbers like {like}"))


def elements(what: str, given: object, how: str) -> tuple[Any, ...]:
    """Return the elements of a list, a range or an array; raises `InputError` for a text, a mapping or another type."""
    try:
        if isinstance(given, str | bytes | Mapping):
            raise TypeError
        return tuple(given)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"{what} must be {how}, not {quoted(given)}") from None
