"""A checkpoint whose neurons tile the century: each is tuned to a window of start years and steps up inside it.

planted = write_tiling(tmp_path / "tiling", seed=0)
planted.parameters[neuron]          # low, high, step: years
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from planted import DEFAULT, MINI, YEARS, Planted, Planting, _step_up, _window_drive, _write
from scipy.special import ndtr
from threadpoolctl import threadpool_limits

from neurons.types import NeuronId

COUNT, WIDTH, PEAK = 48, 11, 8.0
CENTURIES = (13, 14, 16)
"""Of one noun: few prompts, so that a test takes seconds."""


@threadpool_limits.wrap(limits=1)
def write_tiling(folder: Path, *, seed: int, paired: bool = True, height: float = 1.5, noise: float = 0.1) -> Planted:
    """Windows of eleven start years with a step up at the third; not `paired`: with the steps dealt out at random."""
    rng = np.random.default_rng(seed)
    low = np.clip(np.round(np.linspace(0, 94, COUNT) + rng.uniform(-1, 1, COUNT)), 0, 94).astype(int)
    step = low + 2
    step = step if paired else rng.permutation(step)
    plantings = [
        Planting(
            "tile", _window_drive(start, start + WIDTH - 1, PEAK), height * _step_up(at + 0.5), PEAK,
            {"low": start, "high": start + WIDTH - 1, "step": at},
        )
        for start, at in zip(low.tolist(), step.tolist(), strict=True)
    ]  # fmt: skip
    return _write(folder, plantings, rng=rng, tokenizer=MINI, shape=DEFAULT, noise=noise)


def true_window(planted: Planted, *, later: int = 0) -> Callable[[int, NeuronId], float]:
    """The activation that each planted neuron was given, moved by some years."""

    def activation(start_year: int, neuron: NeuronId) -> float:
        truth = planted.parameters[neuron]
        drive = _window_drive(truth["low"], truth["high"], PEAK)
        x = float(np.interp(start_year - later, YEARS, drive))
        return x * float(ndtr(x))

    return activation
