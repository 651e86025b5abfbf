"""Whole processes: a question to an existing cache, the ranking, and the first import."""

import json
import subprocess

import numpy as np

import neurons
from benchmarks.pairs import Row, Turns, alternate, difference, row
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
SUBSET = 512
"""Neurons of each of the peer's turns."""
YEAR = 32
INTERVAL_TOLERANCE = 1e-3
"""Ends of an interval differ by less than this share of the widest one: sums of float32 in another order."""


def rows(setting: Setting) -> list[Row]:
    setting.cache  # noqa: B018  made before anything is timed
    return [_query(setting), _ranking(setting), _import()]


def command(*arguments: str) -> bytes:
    return subprocess.run(python(*arguments), env=environment(), stdout=subprocess.PIPE, check=True).stdout


def _query(setting: Setting) -> Row:
    neuron, year = NeuronId(setting.layers[1 % len(setting.layers)], 12), _complete_year(setting)
    asked = ("-m", "neurons", "effect", str(neuron), "--year", str(year), *setting.options, "--json")
    times, _ = alternate(Turns(lambda _: command(*asked), lambda _: _boot(setting)))
    return row(
        "query",
        times,
        work=f"`neurons effect {neuron} --year {year}` from an existing cache, whole process",
        peer_is="a process that imports torch and transformer_lens and loads the checkpoint",
        found=difference(json.loads(command(*asked))["logits"], _by_the_bridge(setting, neuron, year)),
        tolerance=1e-4,
        at_least=12,
        aim=15,
        most_seconds=0.6,
    )


def _boot(setting: Setting) -> None:
    folder = str(find_checkpoint(setting.checkpoint).folder)
    subprocess.run(python("-c", BOOT, folder), env=environment(), check=True, capture_output=True)


def _complete_year(setting: Setting) -> int:
    """The first start year from `YEAR` on that every century has: no century effect is taken out of its mean."""
    cache = setting.cache
    centuries = len(np.unique(cache.century))
    return next(y for y in range(YEAR, 100) if len(np.unique(cache.century[cache.start_year == y])) == centuries)


def _by_the_bridge(setting: Setting, neuron: NeuronId, year: int) -> np.ndarray:
    """The same 100 logits from TransformerLens's activations and scale, and the weights."""
    import torch

    model, rows = setting.model, np.flatnonzero(setting.prompts.start_year == year)
    hook = f"blocks.{neuron.layer}.mlp.hook_post"
    with torch.inference_mode():
        tokens = torch.as_tensor(setting.prompts.tokens[rows], dtype=torch.long)
        _, kept = setting.bridge.run_with_cache(tokens, names_filter=[hook, "ln_final.hook_scale"])
        of_prompts = kept[hook][:, -1, neuron.index] / kept["ln_final.hook_scale"][:, -1, 0]
        century = torch.as_tensor(setting.prompts.century[rows])
        tuned = torch.stack([of_prompts[century == one].mean() for one in century.unique()]).mean()
        w_out = model.blocks[neuron.layer].W_out[neuron.index]
        directions = model.W_U[torch.as_tensor(setting.prompts.year_token_ids)] * model.ln_final.gain
        return (tuned * (directions @ (w_out - w_out.mean()))).numpy()


def _ranking(setting: Setting) -> Row:
    count = len(setting.layers) * setting.cache.d_mlp
    asked = ("-m", "neurons", "rank", "--no-attribution", *setting.options)
    times, _ = alternate(
        Turns(
            lambda _: command(*asked),
            lambda _: _jackknife(setting),
            peer_share=min(SUBSET, setting.cache.d_mlp) / count,
        )
    )
    return row(
        "rank",
        times,
        work=f"`neurons rank --no-attribution` from an existing cache, whole process: {count:,} neurons",
        peer_is="the same intervals by pandas means and a numpy least squares without each century, in this process",
        found=_intervals_apart(command(*asked, "--json"), _jackknife(setting), setting),
        tolerance=INTERVAL_TOLERANCE,
        at_least=1,
        most_seconds=5,
        notes=[f"the peer timed on {SUBSET} neurons"],
    )


def _jackknife(setting: Setting) -> np.ndarray:
    """Ends [2, n] of the intervals of year-specific parts, for the first n = SUBSET neurons of the first layer."""
    import pandas as pd
    from scipy.stats import t as student

    effects, cache = neurons.logit_effects(setting.cache), setting.cache
    years, layer, first = np.array(effects.start_years), setting.layers[0], slice(0, SUBSET)
    values = effects.readout(layer, first).astype(float) @ contrast_weights(years.tolist()).T / len(years)
    prompts = pd.DataFrame(effects.activation(layer, first)).astype(float)
    means = prompts.groupby([cache.century, cache.start_year]).mean()
    century, year = (means.index.get_level_values(level).to_numpy() for level in (0, 1))
    measured = np.isin(year, years)

    def specific(kept: np.ndarray) -> np.ndarray:
        X = np.concatenate([year[kept, None] == years, century[kept, None] == np.unique(century[kept])], 1).astype(
            float
        )
        X = np.concatenate([X, [np.arange(X.shape[1]) >= len(years)]])  # effects of centuries add up to zero
        y = np.concatenate([means.to_numpy()[kept], np.zeros((1, means.shape[1]))])
        tuning = np.linalg.lstsq(X, y)[0][: len(years)]
        return ((tuning - tuning.mean(0)).T * values).sum(1)

    without = np.stack([specific(measured & (century != one)) for one in np.unique(century[measured])])
    C = len(without)
    half = student.ppf(0.975, C - 1) * np.sqrt((C - 1) / C * ((without - without.mean(0)) ** 2).sum(0))
    whole = specific(measured)
    return np.stack([whole - half, whole + half])


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
