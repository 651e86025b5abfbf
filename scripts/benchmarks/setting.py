"""What every row works on: a checkpoint of GPT-2 small's true shape, its prompts, its cache, and the bridge."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

import neurons
from neurons.model.files import BUNDLED, find_checkpoint

NOUNS = 20


@dataclass(frozen=True, eq=False)
class Setting:
    """A checkpoint folder and a folder for what is made. Models are loaded when a row first needs them."""

    checkpoint: str
    folder: Path

    @cached_property
    def model(self) -> neurons.Model:
        return neurons.load_model(self.checkpoint)

    @cached_property
    def bridge(self) -> Any:
        return self.model.bridge

    @cached_property
    def prompts(self) -> neurons.PromptSet:
        return neurons.year_spans(find_checkpoint(self.checkpoint).tokenizer, nouns=NOUNS, centuries="draw")

    @cached_property
    def layers(self) -> tuple[int, ...]:
        return find_checkpoint(self.checkpoint).config.default_layers

    @cached_property
    def cache(self) -> neurons.Cache:
        """Of all the nouns; kept in the folder."""
        return neurons.cache_activations(self.model, self.prompts, cache_dir=self.folder)

    @cached_property
    def rows_of_noun(self) -> list[np.ndarray]:
        """Rows of the prompt set, noun by noun, for the start years 02-98 that the tokenizer has."""
        measured = (self.prompts.start_year >= 2) & (self.prompts.start_year <= 98)
        nouns = np.array(self.prompts.noun)
        return [np.flatnonzero((nouns == noun) & measured) for noun in dict.fromkeys(self.prompts.noun)]

    @property
    def options(self) -> list[str]:
        """What names this model, prompts and cache to the command."""
        named = ["--model", self.checkpoint, "--cache-dir", str(self.folder)]
        return [*named, "--nouns", str(NOUNS), "--centuries", "draw"]


def environment() -> dict[str, str]:
    """For child processes: this process's number of threads, no network."""
    return os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def write_gpt2_shaped(folder: Path, **sizes: int) -> Path:
    """Random weights in GPT-2 small's shape, or another; the tokenizer is mini's."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**sizes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or ".ln_" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(BUNDLED["mini"] / name, folder / name)
    return folder


def small_vocabulary() -> int:
    return len(json.loads((BUNDLED["mini"] / "vocab.json").read_text(encoding="utf-8")))
