"""Circuits of ten neurons that answer to each other, and decoys: what attribution must find.

planted = write_linear(tmp_path, seed=0)
planted.roles["twin"]               # NeuronIds
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from planted import MEASURED, YEARS, Planted, contrasts
from planted_switches import PEAK, Switch, write_switches
from threadpoolctl import threadpool_limits


@threadpool_limits.wrap(limits=1)
def write_linear(folder: Path, *, seed: int, height: float = 1.5) -> Planted:
    """Eight neurons and two twins side by side: the contrast is a sum over them, whatever is held.

    Roles: `greater` (8), `twin` (2), and the decoys of every circuit: `orthogonal` (3), `constant` (3).
    """
    rng = np.random.default_rng(seed)
    windows = _windows(rng, 9, width=30)
    switches = [_writer(rng, "greater", name, windows, height) for name in list(windows)[:8]]
    last = list(windows)[8]
    switches += [_writer(rng, "twin", last, windows, height / 2, layer=9)] * 2
    return write_switches(folder, rng, windows, [*switches, *_decoys(rng, windows)])


@threadpool_limits.wrap(limits=1)
def write_responding(folder: Path, *, seed: int, height: float = 3.0) -> Planted:
    """Ten neurons that act through each other, each group in a quarter of the start years.

    Roles: `twin` (2), equal and side by side; `relay`, which writes nothing but what `relayed` fires on; `pair` (2),
    either of which silences `watch`, which silences `guarded`: one of the pair is enough; `main`, whose absence
    turns on `backup`, which writes the same. And the decoys.
    """
    rng = np.random.default_rng(seed)
    windows = _windows(rng, 4, width=26)
    twin, main, pair, relay = windows
    steps = {name: _readout(rng, windows[name], height) for name in windows}
    on, off = PEAK, -2 * PEAK
    switches = [
        *[Switch("twin", 9, drive=twin, answer=steps[twin] / 2)] * 2,
        Switch("relay", 8, drive=relay, hidden="relayed"),
        Switch("relayed", 10, bias=-on, reads={"relayed": 2 * on}, answer=steps[relay]),
        *[Switch("pair", 8, drive=pair, hidden="either")] * 2,
        Switch("watch", 9, bias=6 * on, reads={"either": -7.8 * on}, hidden="neither"),
        Switch("guarded", 11, drive=pair, reads={"neither": -0.2 * on}, answer=steps[pair]),
        Switch("main", 8, drive=main, hidden="acted", answer=steps[main]),
        Switch("backup", 10, drive=main, reads={"acted": off}, answer=steps[main]),
    ]
    return write_switches(folder, rng, windows, [*switches, *_decoys(rng, windows)])


@threadpool_limits.wrap(limits=1)
def write_crowded(folder: Path, *, seed: int, height: float = 3.0, small: float = 0.03) -> Planted:
    """Six neurons that do greater-than, among four that write smooth profiles unrelated to their tuning.

    Roles: `greater` (6), `smooth` (4): waves over the years, written `small` times as much as an answer. Of eight
    waves of any phase each takes the one with the largest year-specific contrast: small as the effect is, it is far
    from that of a random direction. And the decoys.
    """
    rng = np.random.default_rng(seed)
    windows = _windows(rng, 6, width=28)
    switches = [_writer(rng, "greater", name, windows, height) for name in windows]
    unrelated = {f"s{name}": window for name, window in _windows(rng, 4, width=30).items()}
    switches += [_smooth(rng, name, unrelated[name], height, small) for name in unrelated]
    windows |= unrelated
    return write_switches(folder, rng, windows, [*switches, *_decoys(rng, windows)])


def _windows(rng: np.random.Generator, count: int, *, width: int) -> dict[str, np.ndarray]:
    """Name -> [100] bool: windows of start years whose middles cover the century in order."""
    middles = (np.arange(count) + 0.5) * 100 / count + rng.uniform(-2, 2, count)
    return {f"w{at}": np.abs(YEARS - middle) <= width / 2 for at, middle in enumerate(middles)}


def _readout(rng: np.random.Generator, window: np.ndarray, height: float) -> np.ndarray:
    """Down to a step near the window's end, up after it, the nearer the more."""
    inside = YEARS[window]
    step = inside[0] + (inside[-1] - inside[0]) * rng.uniform(0.7, 0.95)
    profile = np.where(step < YEARS, np.exp((step - YEARS) / 20), -1.0)
    return height * rng.uniform(0.9, 1.1) * (profile - profile.mean())


def _writer(
    rng: np.random.Generator,
    role: str,
    name: str,
    windows: Mapping[str, np.ndarray],
    height: float,
    *,
    layer: int | None = None,
) -> Switch:
    layer = int(rng.integers(8, 12)) if layer is None else layer
    return Switch(role, layer, drive=name, answer=_readout(rng, windows[name], height))


def _smooth(rng: np.random.Generator, name: str, window: np.ndarray, height: float, small: float) -> Switch:
    tuning = window[MEASURED] - window[MEASURED].mean()
    turns, phase = rng.uniform(1, 3, (8, 1)), rng.uniform(0, 2 * np.pi, (8, 1))
    waves = np.cos(2 * np.pi * turns * YEARS / 100 + phase)
    wave = waves[np.argmax(waves @ contrasts().T @ tuning)]
    answer = height * (wave - wave.mean())
    return Switch("smooth", int(rng.integers(8, 12)), drive=name, answer=answer, amount=small)


def _decoys(rng: np.random.Generator, windows: Mapping[str, np.ndarray]) -> list[Switch]:
    """`orthogonal`: tuned, and moves all tokens' logits alike. `constant`: always on, leans to late years."""
    tuned = rng.choice(list(windows), 3).tolist()
    orthogonal = [Switch("orthogonal", int(rng.integers(8, 12)), drive=name, every=True) for name in tuned]
    line = 0.1 * (YEARS - 49.5) / 50
    return orthogonal + [Switch("constant", int(layer), bias=PEAK, answer=line) for layer in rng.integers(8, 12, 3)]
