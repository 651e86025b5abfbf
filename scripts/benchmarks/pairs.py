"""Two ways of doing the same work, timed in turns, so that what else the machine does falls on both alike.

The ratio is taken pair by pair; its median and quartiles are what a row reports. Between the pairs the
machine's own limit is measured: the rate of one large float32 matrix product, with the same threads.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

PAIRS = 5
SIDE = 2048
"""Rows and columns of the matrix product that says what the machine can do."""


@dataclass(frozen=True)
class Times:
    """Seconds that each turn says the row's whole work takes, and the large product's operations a second."""

    ours: list[float]
    peer: list[float]
    limit: list[float]

    @property
    def ratios(self) -> list[float]:
        return [peer / ours for ours, peer in zip(self.ours, self.peer, strict=True)]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ours, peer: median seconds of the same work (`notes` say where a part of it was timed). ratio: median of the
    pairs' ratios, with quartiles. at_least, aim: the ratios asked for. difference: largest difference of the two
    results over the largest value (of total effects: in units of the measure), never above `tolerance`. memory: peak
    MB above libraries and weights, each side in a process of its own. limit_share: of the large product's rate,
    where our work is matrix products.
    """

    name: str
    work: str
    peer_is: str
    ours: float
    peer: float
    ratio: float
    ratio_low: float
    ratio_high: float
    pairs: int
    at_least: float | None = None
    aim: float | None = None
    most_seconds: float | None = None
    difference: float | None = None
    tolerance: float | None = None
    memory_ours: float | None = None
    memory_peer: float | None = None
    memory_share: float | None = None
    limit_share: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Whether the ratio, the memory and the seconds are what was asked for at least."""
        enough = self.at_least is None or self.ratio >= self.at_least
        light = self.memory_share is None or self.memory_ours <= self.memory_share * self.memory_peer  # type: ignore[operator]
        return enough and light and (self.most_seconds is None or self.ours <= self.most_seconds)


@dataclass(frozen=True)
class Limit:
    """A number without a peer, and the most that it may be (None where nothing is asked).

    points: where it is the largest over the smallest of some values, these, by size. axis: what the sizes are of.
    """

    name: str
    what: str
    value: float
    most: float | None
    unit: str = ""
    points: dict[int, float] = field(default_factory=dict)
    axis: str = ""

    @property
    def passes(self) -> bool:
        return self.most is None or self.value <= self.most


@dataclass(frozen=True)
class Turns:
    """What one pair does. A pair before the first warms up and is not counted, but where whole processes are timed.

    compare: gives how far the two results differ. ours_share, peer_share: how much of the row's work a turn does;
    times are those of the whole.
    """

    ours: Callable[[int], Any]
    peer: Callable[[int], Any]
    compare: Callable[[Any, Any], float] | None = None
    ours_share: float = 1
    peer_share: float = 1


def alternate(turns: Turns, pairs: int = PAIRS, *, warm_up: bool = True) -> tuple[Times, float | None]:
    """Times of the pairs, and the largest difference that `compare` found."""
    times, differences = Times([], [], []), []
    for turn in range(-1 if warm_up else 0, pairs):
        index = max(turn, 0)
        seconds, ours = timed(lambda index=index: turns.ours(index))
        peer_seconds, peer = timed(lambda index=index: turns.peer(index))
        if turn < 0:
            continue
        times.ours.append(seconds / turns.ours_share)
        times.peer.append(peer_seconds / turns.peer_share)
        times.limit.append(matrix_rate())
        if turns.compare:
            differences.append(turns.compare(ours, peer))
    return times, max(differences, default=None)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def matrix_rate() -> float:
    """Floating-point operations a second of one large matrix product."""
    square = torch.ones(SIDE, SIDE)
    seconds, _ = timed(lambda: square @ square)
    return 2 * SIDE**3 / seconds


def difference(ours: Any, peer: Any) -> float:
    """Largest difference over the largest value of the peer's; arrays, or names with arrays."""
    if isinstance(peer, dict):
        return max(difference(ours[name], value) for name, value in peer.items())
    ours, peer = np.asarray(ours, float), np.asarray(peer, float)
    if ours.shape != peer.shape:
        raise SystemExit(f"the two sides give arrays of shape {ours.shape} and {peer.shape}")
    return float(np.abs(ours - peer).max() / np.abs(peer).max())


def row(
    name: str,
    times: Times,
    *,
    work: str,
    peer_is: str,
    found: float | None,
    tolerance: float | None,
    operations: float | None = None,
    **asked: Any,
) -> Row:
    """The row of these times. operations: of the whole work, in our way of doing it."""
    if found is not None and tolerance is not None and found > tolerance:
        raise SystemExit(f"{name}: the two sides differ by {found:.1e} of the largest value, more than {tolerance:.0e}")
    low, middle, high = quartiles(times.ratios)
    ours, limit = float(np.median(times.ours)), float(np.median(times.limit))
    return Row(
        name=name,
        work=work,
        peer_is=peer_is,
        ours=ours,
        peer=float(np.median(times.peer)),
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        pairs=len(times.ours),
        difference=found,
        tolerance=tolerance,
        limit_share=None if operations is None else operations / ours / limit,
        **asked,
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return low, middle, high
