"""Activations at END, final scale and residual, year logits and log-sum-exp: `forward.run` against `run_with_cache`.

A pair is one noun with its start years, both sides in one batch, so the pairs together are the whole work once.
"""

from collections.abc import Callable

import numpy as np
import torch

import neurons
from benchmarks.memory import peaks
from benchmarks.pairs import Row, Turns, alternate, difference, row, timed
from benchmarks.setting import Setting
from neurons.model.config import ModelConfig
from neurons.model.forward import run

Results = dict[str, np.ndarray]
TOLERANCE = 1e-5


def rows(setting: Setting) -> list[Row]:
    nouns = len(setting.rows_of_noun)
    turns = Turns(ours(setting), peer(setting), difference, ours_share=1 / nouns, peer_share=1 / nouns)
    times, found = alternate(turns, pairs=nouns)
    prompts = sum(map(len, setting.rows_of_noun))
    seconds, _ = timed(lambda: setting.cache)
    compared = row(
        "cache",
        times,
        work=f"activations of MLPs {setting.layers[0]}-{setting.layers[-1]} at END, final scale, residual, year logits"
        f" and log-sum-exp: {prompts} prompts of {nouns} nouns",
        peer_is="TransformerBridge.run_with_cache, names filter, a noun a batch",
        found=found,
        tolerance=TOLERANCE,
        operations=needed(setting.model.config, setting.prompts, prompts),
        at_least=3,
        aim=5,
        memory_share=0.5,
        notes=[
            "from nothing to the sealed file, with readouts, digests and the corrupted runs"
            f" ({len(setting.cache)} prompts): {seconds:.1f} s,"
            f" {np.median(times.peer) * len(setting.cache) / prompts / seconds:.1f} times quicker"
            " than the peer, which keeps nothing"
        ],
        **peaks("cache", setting),
    )
    return [compared]


def ours(setting: Setting) -> Callable[[int], Results]:
    def work(noun: int) -> Results:
        found = run(
            setting.model,
            setting.prompts.tokens[setting.rows_of_noun[noun]],
            shared=setting.prompts.year_position,
            layers=setting.layers,
            year_token_ids=setting.prompts.year_token_ids,
        )
        arrays = {f"post_{layer}": post.numpy() for layer, post in found.post.items()}
        return arrays | {
            name: getattr(found, name).numpy() for name in ("scale", "residual", "year_logits", "logsumexp")
        }

    setting.model  # noqa: B018  loaded before the time is taken
    return work


def peer(setting: Setting) -> Callable[[int], Results]:
    bridge = setting.bridge
    posts = {f"post_{layer}": f"blocks.{layer}.mlp.hook_post" for layer in setting.layers}
    residual = f"blocks.{setting.model.config.n_layers - 1}.hook_resid_post"
    wanted = {*posts.values(), residual, "ln_final.hook_scale"}

    @torch.inference_mode()
    def work(noun: int) -> Results:
        tokens = torch.as_tensor(setting.prompts.tokens[setting.rows_of_noun[noun]], dtype=torch.long)
        logits, kept = bridge.run_with_cache(tokens, names_filter=lambda name: name in wanted)
        end = logits[:, -1]
        arrays = {name: kept[hook][:, -1].numpy().copy() for name, hook in posts.items()}
        return arrays | {
            "scale": kept["ln_final.hook_scale"][:, -1, 0].numpy().copy(),
            "residual": kept[residual][:, -1].numpy().copy(),
            "year_logits": end[:, setting.prompts.year_token_ids].numpy(),
            "logsumexp": end.logsumexp(-1).numpy(),
        }

    return work


def needed(config: ModelConfig, prompts: neurons.PromptSet, count: int) -> float:
    """Operations in the matrix products that END cannot do without: from YY on, and in the last layer END alone.

    What nouns share before YY, attention's own products and nonlinearities are left out, so the share of the
    machine's rate is a lower bound.
    """
    positions = prompts.tokens.shape[1] - prompts.year_position
    d, mlp = config.d_model, 2 * config.d_model * config.d_mlp
    layer = positions * (4 * d * d + mlp)
    last = positions * 2 * d * d + 2 * d * d + mlp
    return 2.0 * count * ((config.n_layers - 1) * layer + last + d * config.d_vocab)
