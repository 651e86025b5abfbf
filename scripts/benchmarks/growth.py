"""How time and memory grow: with prompts, with layers and neurons, and with the size of the model.

Seconds a prompt, a neuron, or a number of floating-point operations are to stay near each other. Models of the sizes
of GPT-2 small to XL have random weights, made in memory.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import neurons
from benchmarks.attribution import MEASURES, operations
from benchmarks.cache import needed
from benchmarks.memory import peak
from benchmarks.pairs import Limit, timed
from benchmarks.setting import Setting, small_vocabulary, write_gpt2_shaped
from neurons.attribution.end import block_of
from neurons.attribution.shares import attribute, gauss, shares_of_block
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.model.forward import run
from neurons.model.hugging_face import WHERE, MemoryCheckpoint
from neurons.model.weights import expected_shapes

PER_NOUN = 97
NOUNS = (1, 10, 100)
WIDE_NOUNS = (1, 10)
SMALL = {"n_layer": 6, "n_embd": 256, "n_head": 8, "n_positions": 64}
SPREAD, SPREAD_OF_RATES = 1.2, 1.25
ROUNDS = 3
SHAPES = {"small": (12, 768, 12), "medium": (24, 1024, 16), "large": (36, 1280, 20), "XL": (48, 1600, 25)}
"""Layers, width and heads."""
LAYERS = (4, 12)
BLOCK = 48
"""Prompts on which models of several sizes are run."""
NODES = 4
MEMORY_SPREAD = 1.5


def limits(setting: Setting) -> list[Limit]:
    with tempfile.TemporaryDirectory(dir=setting.folder) as temporary:
        folder = Path(temporary)
        small = neurons.load_model(_write_small(folder))
        return [
            *_prompts("a small model", small, NOUNS, folder),
            *_prompts("this model", setting.model, WIDE_NOUNS, folder),
            *_answers(small, folder),
            *_layers(setting, folder),
            *_sizes(setting, folder),
            *_memory(setting),
        ]


def _write_small(folder: Path) -> Path:
    return write_gpt2_shaped(folder / "small", vocab_size=small_vocabulary(), **SMALL)


def _prompts(which: str, model: neurons.Model, nouns: Iterable[int], folder: Path) -> list[Limit]:
    """The model run noun by noun, and the whole build with its file."""
    sets = {n * PER_NOUN: _of_nouns(model, n) for n in nouns}
    runs = _seconds({size: lambda of=of: run_all(model, of) for size, of in sets.items()})
    builds = {size: timed(lambda of=of: _build(model, of, folder))[0] for size, of in sets.items()}
    per_prompt = [{n: seconds / len(sets[n]) for n, seconds in found.items()} for found in (runs, builds)]
    return [
        _even(f"{which}: milliseconds a prompt through the model", per_prompt[0], "prompts", SPREAD),
        _even(f"{which}: milliseconds a prompt of a build with its file", per_prompt[1], "prompts", None),
    ]


def run_all(model: neurons.Model, prompts: neurons.PromptSet) -> None:
    """Noun by noun, as a build does; results are let go."""
    nouns = np.array(prompts.noun)
    for noun in dict.fromkeys(prompts.noun):
        run(
            model,
            prompts.tokens[nouns == noun],
            shared=prompts.year_position,
            layers=model.config.default_layers,
            year_token_ids=prompts.year_token_ids,
        )


def _build(model: neurons.Model, prompts: neurons.PromptSet, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        neurons.cache_activations(model, prompts, cache_dir=fresh)


def _answers(model: neurons.Model, folder: Path) -> list[Limit]:
    """Attribution and ranking of a small model's neurons, on prompts of more and more nouns."""
    attribution, ranking = {}, {}
    for n in NOUNS:
        cache = neurons.cache_activations(model, _of_nouns(model, n), cache_dir=folder / "kept")
        ctx = neurons.ablation_context(model, cache)
        work = partial(attribute, ctx, measures=MEASURES, draws=1, steps=NODES)
        attribution[len(ctx)] = min(timed(work)[0] for _ in range(1 if n == max(NOUNS) else ROUNDS)) / len(ctx)
        ranking[len(ctx)] = timed(lambda cache=cache: neurons.rank(neurons.logit_effects(cache)))[0] / len(ctx)
    return [
        _even("a small model: milliseconds a prompt of attribution", attribution, "prompts", SPREAD_OF_RATES),
        _even("a small model: milliseconds a prompt of ranking", ranking, "prompts", None),
    ]


def _of_nouns(model: neurons.Model, nouns: int) -> neurons.PromptSet:
    return neurons.year_spans(model.tokenizer, nouns=nouns, centuries="draw")


def _layers(setting: Setting, folder: Path) -> list[Limit]:
    """Attribution of the last 4 and of all 12 layers."""
    rates = {}
    for n in LAYERS:
        ctx = _context(setting.model, folder, setting.model.config.n_layers - n)
        rates[n] = _rate_of_attribution(ctx)
    return [_even_rates("attribution", rates, "layers")]


def _sizes(setting: Setting, folder: Path) -> list[Limit]:
    """The model run, attribution, effects and ranking of the last four layers, in models of several sizes."""
    rates: dict[str, dict[int, float]] = {"the model run": {}, "attribution": {}}
    effects: dict[int, float] = {}
    ranking: dict[int, float] = {}
    for name, shape in SHAPES.items():
        model = _random(setting.model, name, *shape)
        ctx = _context(model, folder, model.config.n_layers - 4)
        prompts = _of_nouns(model, 1)
        seconds = min(timed(partial(run_all, model, prompts))[0] for _ in range(2))
        millions = round(sum(weights.numel() for weights in model.checkpoint.read_weights().values()) / 1e6)
        rates["the model run"][millions] = needed(model.config, prompts, len(prompts)) / seconds
        rates["attribution"][millions] = _rate_of_attribution(ctx)
        found, count = neurons.logit_effects(ctx.cache), 4 * ctx.cache.d_mlp
        works = {
            count: lambda of=found: [of.layer_contrast(layer) for layer in of.layers],
            -count: lambda of=found: neurons.rank(of),
        }
        seconds_of = _seconds(works)
        effects[count], ranking[count] = seconds_of[count] / count, seconds_of[-count] / count
    return [
        *(_even_rates(what, of, "million weights") for what, of in rates.items()),
        _even("effects: milliseconds a neuron", effects, "neurons", SPREAD),
        _even("ranking: milliseconds a neuron", ranking, "neurons", SPREAD),
    ]


def _random(like: neurons.Model, name: str, layers: int, width: int, heads: int) -> neurons.Model:
    """A model of this shape, with the tokenizer and the vocabulary of another."""
    from transformers import GPT2Config

    hf_config = GPT2Config(n_layer=layers, n_embd=width, n_head=heads, vocab_size=like.config.d_vocab)
    config = replace(like.config, n_layers=layers, n_heads=heads, d_model=width, d_mlp=4 * width)
    torch.manual_seed(0)
    state = {
        tensor: torch.empty(shape).uniform_(-0.05, 0.05).add_(1.0 if ".ln_" in tensor else 0.0)
        for tensor, shape in expected_shapes(config).items()
    }
    return neurons.load_model(MemoryCheckpoint(name, WHERE, config, {}, state, hf_config, like.tokenizer))


def _context(model: neurons.Model, folder: Path, first: int) -> AblationContext:
    """Of one noun's prompts, the layers from `first` on cached."""
    layers = range(first, model.config.n_layers)
    cache = neurons.cache_activations(model, _of_nouns(model, 1), layers=layers, cache_dir=folder / "kept")
    return ablation_context(model, cache)


def _rate_of_attribution(ctx: AblationContext) -> float:
    """Operations a second in a block's shares; the block is run before."""
    rows = ctx.rows[:BLOCK]
    block = block_of(ctx, MEASURES, rows, random_years(ctx.cache, draws=1)[:, rows])
    nodes = gauss(NODES, ctx)
    seconds = min(timed(lambda: shares_of_block(ctx, block, nodes))[0] for _ in range(ROUNDS))
    return len(rows) * NODES * operations(ctx.model.config, len(ctx.cache.layers)) / seconds


def _memory(setting: Setting) -> list[Limit]:
    """Megabytes of a build above the weights, in processes of their own."""
    sizes = {n * PER_NOUN: peak("growth", f"build_{n}", setting) for n in NOUNS}
    values = ", ".join(f"{value:,.0f} at {size:,} prompts" for size, value in sizes.items())
    ratio = max(sizes.values()) / min(sizes.values())
    what = f"a small model: megabytes above the weights of a build: {values}; largest / smallest"
    return [Limit("growth", what, ratio, MEMORY_SPREAD, points=sizes, axis="prompts")]


def _building(setting: Setting, nouns: int) -> Callable[[int], None]:
    folder = Path(tempfile.mkdtemp(dir=setting.folder))
    model = neurons.load_model(_write_small(folder))
    prompts = _of_nouns(model, nouns)
    return lambda _: _build(model, prompts, folder)


build_1, build_10, build_100 = (partial(_building, nouns=n) for n in NOUNS)


def _seconds(works: Mapping[int, Callable[[], object]]) -> dict[int, float]:
    """The best of some rounds, the sizes taking turns: growth is asked for, not what else the machine did."""
    for work in works.values():
        work()
        break
    rounds = [{size: timed(work)[0] for size, work in works.items()} for _ in range(ROUNDS)]
    return {size: min(of[size] for of in rounds) for size in works}


def _even(what: str, seconds: Mapping[int, float], unit: str, most: float | None) -> Limit:
    """Largest over smallest."""
    points = {size: 1000 * value for size, value in seconds.items()}
    return _largest_over_smallest(what, points, unit, most)


def _even_rates(work: str, rates: Mapping[int, float], unit: str) -> Limit:
    points = {size: rate / 1e9 for size, rate in rates.items()}
    return _largest_over_smallest(f"{work}: billions of operations a second", points, unit, SPREAD_OF_RATES)


def _largest_over_smallest(what: str, points: dict[int, float], unit: str, most: float | None) -> Limit:
    values = ", ".join(f"{value:.3g} at {size:,} {unit}" for size, value in points.items())
    ratio = max(points.values()) / min(points.values())
    return Limit("growth", f"{what}: {values}; largest / smallest", ratio, most, points=points, axis=unit)
