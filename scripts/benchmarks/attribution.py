"""Shares and written shares of all neurons, against plain hooks and autograd on the whole Hugging Face model.

Both take the same prompts, draws and nodes, and read the logits of END alone. The peer gives each neuron of the layers
a mask by a hook on its MLP's nonlinearity, and takes the gradient with respect to the masks, all prompts in one batch;
nothing before the first layer with masks is differentiated.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import neurons
from benchmarks.hooked import Hooked
from benchmarks.memory import peaks
from benchmarks.pairs import Limit, Row, Turns, alternate, difference, row
from benchmarks.setting import Setting, environment, python
from neurons.attribution.end import block_of, measured_rows
from neurons.attribution.shares import STEPS, gauss, shares_of_block
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.model.config import ModelConfig
from neurons.types import Measure

MEASURES: tuple[Measure, ...] = ("probability_difference", "cutoff_sharpness")
DRAWS = 4
HOOKED = 12
"""Prompts of one of the peer's turns."""
TOLERANCE = 1e-4
"""Of the largest share: sums over nodes of float32 gradients that run through four layers."""
MOST_SECONDS, MOST_MEGABYTES = 360, 4000


class Attributing:
    """The default prompts, one block of which is timed, and the Hugging Face model."""

    def __init__(self, setting: Setting) -> None:
        self.model = setting.model
        prompts = neurons.year_spans(self.model.tokenizer)
        cache = neurons.cache_activations(self.model, prompts, cache_dir=setting.folder)
        self.ctx: AblationContext = ablation_context(self.model, cache)
        self.rows = next(measured_rows(self.ctx))
        self.others = random_years(cache, draws=DRAWS)[:, self.rows]
        self.nodes = gauss(STEPS[0], self.ctx)
        self.hooked = Hooked(self.ctx)

    def ours(self, _: int) -> dict[str, np.ndarray]:
        block = block_of(self.ctx, MEASURES, self.rows, self.others)
        found = shares_of_block(self.ctx, block, self.nodes)
        return {"share": found.share.numpy(), "written": found.written.numpy()}

    def peer(self, _: int) -> dict[str, np.ndarray]:
        rows = self.rows[:HOOKED]
        clean = self.hooked.activations(rows)
        total = {name: torch.zeros(len(MEASURES), HOOKED, len(clean) * self.ctx.cache.d_mlp) for name in
                 ("share", "written")}  # fmt: skip
        for others in self.others[:, :HOOKED]:
            other = self.hooked.activations(others)
            for alpha, weight in zip(self.nodes.at.tolist(), self.nodes.weight.tolist(), strict=True):
                for name, held in (("share", None), ("written", clean)):
                    total[name] += weight / DRAWS * self.gradients(rows, other, alpha, held)
        return {name: values.numpy() for name, values in total.items()}

    def gradients(
        self, rows: np.ndarray, other: dict[int, torch.Tensor], alpha: float, held: dict[int, torch.Tensor] | None
    ) -> torch.Tensor:
        """[K, P, M] with respect to the masks, all equal to alpha."""
        masks = {layer: torch.full_like(post, alpha, requires_grad=True) for layer, post in other.items()}

        def mix(layer: int) -> Callable[..., torch.Tensor]:
            def hook(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
                now = out[:, -1] if held is None else held[layer]
                end = other[layer] + masks[layer] * (now - other[layer])
                return torch.cat([out[:, :-1], end[:, None]], 1)

            return hook

        p = self.hooked.end_logits(rows, {layer: mix(layer) for layer in other}).softmax(-1)[:, self.ctx.year_ids]
        found = []
        for place, weights in enumerate(self.weights(rows)):
            value = (p * weights).sum()
            parts = torch.autograd.grad(value, list(masks.values()), retain_graph=place + 1 < len(MEASURES))
            found.append(torch.cat(parts, -1))
        return torch.stack(found)

    def weights(self, rows: np.ndarray) -> list[torch.Tensor]:
        """Of the year probabilities, in each measure."""
        at = torch.as_tensor(self.ctx.cache.start_year[rows])[:, None]
        year = torch.arange(100)
        return [2.0 * (year > at) - 1, 1.0 * (year == at + 1) - 1.0 * (year == at - 1)]


def rows(setting: Setting) -> list[Row | Limit]:
    one = Attributing(setting)
    turns = Turns(
        one.ours,
        one.peer,
        lambda ours, peer: difference({name: values[:, :HOOKED] for name, values in ours.items()}, peer),
        ours_share=len(one.rows) / len(one.ctx),
        peer_share=HOOKED / len(one.ctx),
    )
    times, apart = alternate(turns)
    steps = len(one.nodes.at)
    found = row(
        "attribution",
        times,
        work=f"share and written share of {len(one.ctx.cache.layers) * one.ctx.cache.d_mlp:,} neurons in probability"
        f" difference and cutoff sharpness, {len(one.ctx):,} prompts, {DRAWS} draws, {steps} nodes",
        peer_is="hooks and autograd on the whole Hugging Face model, logits of END alone, a batch of prompts",
        found=apart,
        tolerance=TOLERANCE,
        operations=len(one.ctx) * DRAWS * steps * operations(one.model.config, len(one.ctx.cache.layers)),
        notes=[f"timed on {len(one.rows)} and {HOOKED} prompts"],
        at_least=6,
        aim=10,
        **peaks("attribution", setting),
    )
    return [found, *_from_nothing(setting)]


def operations(config: ModelConfig, layers: int) -> float:
    """Of one node, draw and prompt, on both paths: END forward and back through the last layers, the vocabulary both
    ways.
    """
    K = len(MEASURES)
    attention, mlp = 4 * config.d_model**2, 2 * config.d_model * config.d_mlp
    share = layers * mlp * (1 + K) - K * config.d_model * config.d_mlp + (layers - 1) * attention * (1 + K)
    written = (layers - 1) * attention * (1 + K)
    return float(2 * (share + written + 2 * 2 * config.d_model * config.d_vocab))


LAUNCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run([sys.executable, "-m", "neurons", *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([time.perf_counter() - start, peak]))
"""


def _from_nothing(setting: Setting) -> list[Limit]:
    """Cache, shares in every measure, sets of growing size and positions before END, by the command."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        command = python("-c", LAUNCH, "cache", "build", "--model", setting.checkpoint, "--cache-dir", folder)
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
    seconds, megabytes = json.loads(done.stdout)
    work = "`neurons cache build` of the default prompts from nothing, attribution included"
    return [
        Limit("attribution", work, seconds, MOST_SECONDS, "s"),
        Limit("attribution", f"{work}: peak memory", megabytes, MOST_MEGABYTES, "MB"),
    ]


def ours(setting: Setting) -> Callable[[int], Any]:
    return Attributing(setting).ours


def peer(setting: Setting) -> Callable[[int], Any]:
    one = Attributing(setting)
    one.hooked.hf  # noqa: B018  loaded before the measurement
    return one.peer
