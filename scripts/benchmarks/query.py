"""Whole processes: a question to an existing cache, the ranking, and the first import."""

import json
import subprocess
from collections.abc import Callable

import numpy as np

import neurons
from benchmarks.pairs import Row, Turns, alternate, difference, row, timed
from benchmarks.setting import Setting, environment, python
from neurons.model.files import find_checkpoint
from neurons.task.years import contrast_weights
from neurons.types import NeuronId

BOOT = """
import sys
import torch
from transformer_lens.model_bridge import TransformerBridge
TransformerBridge.boot_transformers(sys.argv[1], device="cpu")
"""
RESAMPLES = 2000
SUBSET = 512
"""Neurons of each of scipy's turns."""
BATCH = 20
"""Resamples that scipy holds at once."""
YEAR = 32
INTERVAL_TOLERANCE = 0.25
"""Ends of an interval differ by less than this share of the widest one: both sides draw their own 2,000 resamples."""


def rows(setting: Setting) -> list[Row]:
    setting.cache  # noqa: B018  made before anything is timed
    return [_query(setting), _ranking(setting), _import()]


def command(*arguments: str) -> bytes:
    return subprocess.run(python(*arguments), env=environment(), stdout=subprocess.PIPE, check=True).stdout


def _query(setting: Setting) -> Row:
    neuron = NeuronId(setting.layers[1 % len(setting.layers)], 12)
    asked = ("-m", "neurons", "effect", str(neuron), "--year", str(YEAR), *setting.options, "--json")
    times, _ = alternate(Turns(lambda _: command(*asked), lambda _: _boot(setting)))
    return row(
        "query",
        times,
        work=f"`neurons effect {neuron} --year {YEAR}` from an existing cache, whole process",
        peer_is="a process that imports torch and transformer_lens and loads the checkpoint",
        found=difference(json.loads(command(*asked))["logits"], _by_the_bridge(setting, neuron)),
        tolerance=1e-4,
        at_least=10,
        aim=20,
        most_seconds=0.8,
    )


def _boot(setting: Setting) -> None:
    folder = str(find_checkpoint(setting.checkpoint).folder)
    subprocess.run(python("-c", BOOT, folder), env=environment(), check=True, capture_output=True)


def _by_the_bridge(setting: Setting, neuron: NeuronId) -> np.ndarray:
    """The same 100 logits from TransformerLens's activations and scale, and the weights."""
    import torch

    model, rows = setting.model, np.flatnonzero(setting.prompts.start_year == YEAR)
    hook = f"blocks.{neuron.layer}.mlp.hook_post"
    with torch.inference_mode():
        tokens = torch.as_tensor(setting.prompts.tokens[rows], dtype=torch.long)
        _, kept = setting.bridge.run_with_cache(tokens, names_filter=[hook, "ln_final.hook_scale"])
        tuned = (kept[hook][:, -1, neuron.index] / kept["ln_final.hook_scale"][:, -1, 0]).mean()
        w_out = model.blocks[neuron.layer].W_out[neuron.index]
        directions = model.W_U[torch.as_tensor(setting.prompts.year_token_ids)] * model.ln_final.gain
        return (tuned * (directions @ (w_out - w_out.mean()))).numpy()


def _ranking(setting: Setting) -> Row:
    count = len(setting.layers) * setting.cache.d_mlp
    asked = ("-m", "neurons", "rank", *setting.options)
    bootstrap = _scipy(setting)
    turns = Turns(lambda _: command(*asked), bootstrap, peer_share=min(SUBSET, setting.cache.d_mlp) / count)
    times, _ = alternate(turns)
    simple, _ = timed(lambda: _shortcut(setting))
    return row(
        "rank",
        times,
        work=f"`neurons rank` from an existing cache, whole process: {count:,} neurons, {RESAMPLES:,} resamples",
        peer_is="scipy.stats.bootstrap of the same score, vectorised, in this process",
        found=_intervals_apart(command(*asked, "--json"), bootstrap(0), setting),
        tolerance=INTERVAL_TOLERANCE,
        at_least=20,
        aim=50,
        most_seconds=5,
        notes=[
            f"scipy timed on {SUBSET} neurons, {BATCH} resamples a batch: each resample averages the prompts of the"
            " nouns drawn at each start year, because nouns lack some",
            "where no noun lacks a year it is enough to resample the nouns' own scores: scipy then takes"
            f" {simple:.1f} s for all neurons, without reading the file, p values or the table",
        ],
    )


def _cells(setting: Setting, layer: int, neurons_: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a/sigma of each noun and start year [nouns, Y, N] (0 where missing), which are there, and contrasts [N, Y]."""
    effects = neurons.logit_effects(setting.cache)
    activation, years = effects.activation(layer, neurons_), list(effects.start_years)
    nouns = np.unique(setting.cache.noun, return_inverse=True)[1]
    cells = np.zeros((nouns.max() + 1, len(years), activation.shape[1]), np.float32)
    there = np.zeros(cells.shape[:2], np.float32)
    for row_, year in enumerate(setting.cache.start_year.tolist()):
        if year in years:
            cells[nouns[row_], years.index(year)] = activation[row_]
            there[nouns[row_], years.index(year)] = 1
    return cells, there, effects.readout(layer, neurons_) @ contrast_weights(years).T


def _scipy(setting: Setting) -> Callable[[int], np.ndarray]:
    """Intervals [2, n] of the first n = SUBSET neurons of the first layer, or of all that it has."""
    from scipy.stats import bootstrap

    cells, there, contrasts = _cells(setting, setting.layers[0], slice(0, SUBSET))

    def score(drawn: np.ndarray, axis: int) -> np.ndarray:
        """Of nouns drawn [B, 1, nouns]: [B, neurons]. A year that no drawn noun has is left out."""
        drawn = np.moveaxis(np.atleast_2d(drawn.astype(int)), axis, -1).reshape(-1, drawn.shape[axis])
        counts = there[drawn].sum(1)[..., None]
        tuning = np.divide(
            cells[drawn].sum(1), counts, where=counts > 0, out=np.zeros((*counts.shape[:2], cells.shape[2]), np.float32)
        )
        return np.einsum("byn,ny->nb", tuning, contrasts) / (counts > 0).sum((1, 2))

    def work(turn: int) -> np.ndarray:
        found = bootstrap(
            (np.arange(len(cells)),), score, axis=-1, vectorized=True, n_resamples=RESAMPLES, batch=BATCH,
            method="percentile", rng=np.random.default_rng(turn),
        )  # fmt: skip
        return np.stack([found.confidence_interval.low, found.confidence_interval.high]).reshape(2, cells.shape[2])

    return work


def _shortcut(setting: Setting) -> None:
    """All neurons at once, each noun's own score resampled."""
    from scipy.stats import bootstrap

    count = len(setting.layers) * setting.cache.d_mlp
    scores = np.random.default_rng(0).normal(size=(len(setting.rows_of_noun), count)).astype(np.float32)
    bootstrap((scores,), np.mean, axis=0, vectorized=True, n_resamples=RESAMPLES, batch=BATCH, method="percentile")


def _intervals_apart(printed: bytes, intervals: np.ndarray, setting: Setting) -> float:
    """Largest difference of an interval's end, over the widest interval."""
    ranked = {(n["layer"], n["index"]): (n["ci_low"], n["ci_high"]) for n in json.loads(printed)["neurons"]}
    ours = np.array([ranked[setting.layers[0], index] for index in range(intervals.shape[1])]).T
    return float(np.abs(ours - intervals).max() / np.ptp(intervals, axis=0).max())


def _import() -> Row:
    turns = Turns(lambda _: command("-c", "import neurons"), lambda _: command("-c", "import transformer_lens"))
    times, _ = alternate(turns)
    return row(
        "import",
        times,
        work="`import neurons`, whole process",
        peer_is="`import transformer_lens`",
        found=None,
        tolerance=None,
        at_least=20,
        aim=40,
    )
