"""How time grows: a build with its prompts, effects and ranking with their neurons.

Seconds a prompt, and seconds a neuron, are to stay within 20 % of each other.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

import neurons
from benchmarks.pairs import Limit, timed
from benchmarks.setting import Setting, small_vocabulary, write_gpt2_shaped
from neurons.model.forward import run

PER_NOUN = 97
NOUNS = (1, 10, 100)
WIDE_NOUNS = (1, 10)
SMALL = {"n_layer": 6, "n_embd": 256, "n_head": 8, "n_positions": 64}
SPREAD = 1.2
ROUNDS = 3


def limits(setting: Setting) -> list[Limit]:
    with tempfile.TemporaryDirectory(dir=setting.folder) as temporary:
        folder = Path(temporary)
        small = neurons.load_model(write_gpt2_shaped(folder / "small", vocab_size=small_vocabulary(), **SMALL))
        return [
            *_prompts("a small model", small, NOUNS, folder),
            *_prompts("this model", setting.model, WIDE_NOUNS, folder),
            *_neurons(setting, folder),
        ]


def _prompts(which: str, model: neurons.Model, nouns: Iterable[int], folder: Path) -> list[Limit]:
    """The model run noun by noun, and the whole build with its file."""
    sets = {n * PER_NOUN: neurons.year_spans(model.tokenizer, nouns=n, centuries="draw") for n in nouns}
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


def _neurons(setting: Setting, folder: Path) -> list[Limit]:
    """Effects and ranking from caches of the last 1, 2, 4 layers."""
    sizes = [n for n in (1, 2, 4) if n <= len(setting.layers)]
    effects = {}
    for n in sizes:
        cache = neurons.cache_activations(
            setting.model, setting.prompts, layers=setting.layers[-n:], cache_dir=setting.folder
        )
        effects[n * cache.d_mlp] = neurons.logit_effects(cache)
    stages: dict[str, Callable[[neurons.LogitEffects], object]] = {
        "effects": lambda of: [of.layer_contrast(layer) for layer in of.layers],
        "ranking": neurons.rank,
    }
    found = []
    for stage, work in stages.items():
        seconds = _seconds({n: lambda of=of, work=work: work(of) for n, of in effects.items()})
        each = {n: value / n for n, value in seconds.items()}
        found.append(_even(f"{stage}: milliseconds a neuron", each, "neurons", SPREAD))
    return found


def _seconds(works: Mapping[int, Callable[[], object]]) -> dict[int, float]:
    """The best of some rounds, the sizes taking turns: growth is asked for, not what else the machine did."""
    for work in works.values():
        work()
        break
    rounds = [{size: timed(work)[0] for size, work in works.items()} for _ in range(ROUNDS)]
    return {size: min(of[size] for of in rounds) for size in works}


def _even(what: str, seconds: Mapping[int, float], unit: str, most: float | None) -> Limit:
    """Largest over smallest."""
    values = ", ".join(f"{1000 * value:.3g} at {size:,} {unit}" for size, value in seconds.items())
    return Limit("growth", f"{what}: {values}; largest / smallest", max(seconds.values()) / min(seconds.values()), most)
