"""Measure speed and memory of the package against the plain way of doing the same, in one run.

    OMP_NUM_THREADS=2 python scripts/benchmark.py causal

A checkpoint with random weights in GPT-2 small's shape is written to a temporary folder (half a gigabyte);
`--model` takes another. Each benchmark prints what was measured, and the ratio.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch

import neurons
from neurons.analysis.experiment import Experiment, experiment
from neurons.analysis.interventions import MEASURES, neuron_changes
from neurons.model.files import BUNDLED
from neurons.task.intervention import Intervention
from neurons.types import Measure, NeuronId

CONTRAST_NEURONS, VOCABULARY_NEURONS, HOOKED_NEURONS = 1024, 256, 4
ROUNDS = 3


@dataclass(frozen=True)
class Setting:
    """What every benchmark is given."""

    model: neurons.Model
    folder: Path


@dataclass(frozen=True)
class Line:
    """One number, with its unit."""

    what: str
    value: float
    unit: str


def causal(setting: Setting) -> list[Line]:
    """Exact total effects against the hooked whole model with all prompts in one batch per neuron.

    The three take turns, and the best round of each counts, so that other work on the machine does not
    favour one.
    """
    on = _one_noun(setting)
    for measure in MEASURES:
        _exact_rate(on, measure, VOCABULARY_NEURONS)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    hf, rates = _hooked_model(on), []
    for _ in range(ROUNDS):
        contrast = _exact_rate(on, "contrast", CONTRAST_NEURONS)
        vocabulary = _exact_rate(on, "probability_difference", VOCABULARY_NEURONS)
        rates.append((contrast, vocabulary, _hooked_rate(on, hf)))
    contrast, vocabulary, hooked = (max(of_one) for of_one in zip(*rates, strict=True))
    rate = "neurons x prompts / s"
    return [
        Line("exact total effect, contrast", contrast, rate),
        Line("exact total effect, probability difference", vocabulary, rate),
        Line("hooked whole model", hooked, rate),
        Line("contrast: ratio", contrast / hooked, "times"),
        Line("probability difference: ratio", vocabulary / hooked, "times"),
        Line("peak memory, without the hooked model", memory, "GB"),
    ]


def _one_noun(setting: Setting) -> Experiment:
    prompts = neurons.year_spans(setting.model.tokenizer, nouns=1)
    cache = neurons.cache_activations(setting.model, prompts, cache_dir=setting.folder)
    held = [year for year in range(2, 99) if year in set(cache.start_year.tolist())]
    return experiment(setting.model, cache, years=held)


def _exact_rate(on: Experiment, measure: Measure, count: int) -> float:
    """Neurons spread evenly over the cached layers; the trace of the prompts is part of the time."""
    rng, per_layer = np.random.default_rng(0), count // len(on.cache.layers)
    chosen = [
        NeuronId(layer, int(index))
        for layer in on.cache.layers
        for index in rng.choice(on.cache.d_mlp, min(per_layer, on.cache.d_mlp), replace=False)
    ]
    on.held_at("resample", on.cache.layers[0], slice(0, 1))
    start = time.perf_counter()
    for block in on.blocks():
        for _ in neuron_changes(on, block, chosen, Intervention(measure=measure)):
            pass
    return len(chosen) * len(on) / (time.perf_counter() - start)


def _hooked_model(on: Experiment) -> Any:
    """The Hugging Face model with a hook that replaces one activation at END."""
    from transformers import GPT2LMHeadModel

    def ablate(_: Any, __: Any, activations: torch.Tensor) -> torch.Tensor:
        activations[:, -1, 0] = 0
        return activations

    hf = GPT2LMHeadModel.from_pretrained(on.model.checkpoint.folder, attn_implementation="eager").eval()
    hf.transformer.h[on.cache.layers[0]].mlp.act.register_forward_hook(ablate)
    return hf


@torch.inference_mode()
def _hooked_rate(on: Experiment, hf: Any) -> float:
    """All prompts in one batch, once for each neuron; reading the logits off is not counted."""
    tokens = torch.as_tensor(on.tokens[on.rows], dtype=torch.long)
    start = time.perf_counter()
    for _ in range(HOOKED_NEURONS):
        hf(tokens)
    return HOOKED_NEURONS * len(on) / (time.perf_counter() - start)


def write_gpt2_shaped(folder: Path) -> Path:
    """Random weights in GPT-2 small's shape, with the bundled tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or ".ln_" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(BUNDLED["mini"] / name, folder / name)
    return folder


BENCHMARKS: dict[str, Callable[[Setting], list[Line]]] = {"causal": causal}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("benchmark", choices=[*BENCHMARKS, "all"], help="what to measure")
    parser.add_argument("--model", help="a checkpoint directory or a name; default random, in GPT-2 small's shape")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    chosen = list(BENCHMARKS) if asked.benchmark == "all" else [asked.benchmark]
    with tempfile.TemporaryDirectory() as temporary:
        name = asked.model or write_gpt2_shaped(Path(temporary) / "gpt2-shaped")
        setting = Setting(neurons.load_model(name), Path(temporary) / "cache")
        found = {benchmark: BENCHMARKS[benchmark](setting) for benchmark in chosen}
    if asked.json:
        lines = {benchmark: [asdict(line) for line in lines] for benchmark, lines in found.items()}
        print(json.dumps({"threads": torch.get_num_threads(), **lines}, indent=1))
        return
    print(f"{torch.get_num_threads()} threads, model {setting.model.name}")
    for benchmark, lines in found.items():
        for line in lines:
            print(f"{benchmark}: {line.what}: {line.value:,.1f} {line.unit}")


if __name__ == "__main__":
    main(sys.argv[1:])
