"""Settings of a study: task, prompts, layers, start years, device, cache folder. Keys and provenance share them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurons.cache.folder import default_folder
from neurons.cache.format import cache_key, cache_path
from neurons.cache.layout import DTYPE, Dtype
from neurons.model.files import Checkpoint
from neurons.task.own_prompts import PromptFile
from neurons.task.prompt_set import NO_BOS, PAD, OwnPrompts, PromptSet
from neurons.task.prompts import DEFAULT_NOUNS, Centuries, year_spans
from neurons.task.tasks import DEFAULT, Task
from neurons.task.years import MEASURED, measured_years
from neurons.types import Device, InputError


@dataclass(frozen=True)
class Settings:
    """How a study is run, whatever the model.

    layers: None for the last third of the model's. years: the start years measured, None for those of 02-98 that have
    a prompt. nouns, centuries, seed, bos, task: as in `year_spans`; the seed also draws splits and subsamples. prompts:
    a prompt set or file of your own in their place. attribution: whether the ranking is by attribution, or by direct
    effect. all_prompts: whether analyses of many runs take all prompts, however long that takes, and not a sample.
    """

    layers: tuple[int, ...] | None = None
    years: tuple[int, ...] | None = None
    nouns: int | Sequence[str] = DEFAULT_NOUNS
    centuries: Centuries = "all"
    seed: int = 0
    bos: bool = True
    task: Task = DEFAULT
    prompts: PromptSet | PromptFile | None = None
    dtype: Dtype = DTYPE
    attribution: bool = True
    all_prompts: bool = False
    device: Device = "cpu"
    cache_dir: Path = field(default_factory=default_folder)

    def on(self, checkpoint: Checkpoint) -> "Plan":
        """Apply these settings to one checkpoint; nothing is loaded.

        Raises `InputError` for layers outside the model, prompts that its tokenizer cannot align, or start
        years without a prompt.
        """
        layers = checkpoint.config.check_layers(self.layers or checkpoint.config.default_layers)
        prompts = self._prompts(checkpoint)
        return Plan(self, checkpoint, prompts, layers, measured_years(prompts.start_year.tolist(), self.years))

    def _prompts(self, checkpoint: Checkpoint) -> PromptSet:
        if isinstance(self.prompts, PromptFile):
            return self.prompts.align(checkpoint.tokenizer)
        if self.prompts is not None:
            return self.prompts
        self.task.check_words(checkpoint.tokenizer)
        return year_spans(
            checkpoint.tokenizer,
            nouns=self.nouns,
            centuries=self.centuries,
            seed=self.seed,
            template=self.task.template,
            bos=self.bos,
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """The settings applied to one checkpoint. years: the start years measured."""

    settings: Settings
    checkpoint: Checkpoint
    prompts: PromptSet
    layers: tuple[int, ...]
    years: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Path of the cache file, whether it exists or not."""
        key = cache_key(self.checkpoint, self.prompts, self.layers, self.settings.dtype)
        return cache_path(self.settings.cache_dir, self.checkpoint, key)

    @property
    def folder_name(self) -> str:
        """Name of a report's folder: the model, and the task unless it is the default, or the prompts of one's own."""
        own = f"-prompts-{self.prompts.digest[:8]}" if isinstance(self.prompts, OwnPrompts) else ""
        without = "" if own or self.settings.bos else "-no-bos"
        return self.path.stem.rpartition("-")[0] + (own or self.settings.task.suffix) + without

    @property
    def years_left_out(self) -> tuple[int, ...]:
        """Start years of 02-98 without a prompt, unless the years were chosen."""
        return () if self.settings.years is not None else tuple(year for year in MEASURED if year not in self.years)

    @property
    def rows_left_out(self) -> str | None:
        """How many rows of a file of prompts were skipped, the first three by line and reason; None where none was."""
        found = self.prompts.left_out if isinstance(self.prompts, OwnPrompts) else ()
        return f"rows of the prompts left out: {len(found):,} ({'; '.join(found[:3])})" if found else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of results must know of how checkpoint and prompts are stored."""
        of_prompts = [self.rows_left_out] if self.rows_left_out else []
        if isinstance(self.prompts, OwnPrompts) and (alone := self.prompts.alone):
            of_all = f"{alone:,} of {len(self.prompts):,} prompts"
            of_prompts.append(
                f"random other start year: {of_all} have none in their words and century and take the nearest"
            )
        return (*self.checkpoint.notes, *of_prompts)

    def check_one_length(self) -> None:
        """Raise `InputError` for prompts of several lengths, whose embeddings cannot be moved towards each other."""
        if (self.prompts.tokens == PAD).any():
            raise InputError(
                "approximations move embeddings from one prompt to another, which needs prompts of one length: choose"
                " rows of as many tokens"
            )

    def check_one_layout(self) -> None:
        """Raise `InputError` where prompts and corrupted runs differ in several places: paths start at one."""
        prompts = self.prompts
        differ = prompts.tokens != prompts.counterfactual_tokens[prompts.counterfactual]
        if differ.any(0).sum() > 1 or (prompts.tokens == PAD).any():
            raise InputError(
                "the circuit follows paths from the position of YY, which must be the same in all prompts, and the only"
                " one in which the corrupted run differs: choose such rows, or leave out --prompts"
            )

    @property
    def key(self) -> dict[str, Any]:
        """What results depend on beside the cache's key."""
        settings = self.settings
        return {"years": list(self.years), "seed": settings.seed, "all_prompts": settings.all_prompts}

    @property
    def token_names(self) -> tuple[str, ...]:
        """The tokens of a prompt as words, those that vary between prompts in capitals (in prompts of one's own: …)."""
        prompts, tokenizer = self.prompts, self.checkpoint.tokenizer
        if isinstance(prompts, OwnPrompts):
            same = (prompts.tokens == prompts.tokens[0]).all(0).tolist()
            first = prompts.tokens[0].tolist()
            return tuple(tokenizer.decode(t).strip() if one else "…" for t, one in zip(first, same, strict=True))
        noun = tokenizer.encode(prompts.template.as_written(prompts.noun[0]))
        names = ["NOUN" if [token] == noun else tokenizer.decode(token).strip() for token in prompts.tokens[0].tolist()]
        names[prompts.year_position], names[prompts.year_position - 1], names[-1] = "YY", "XX", "XX"
        if prompts.bos != NO_BOS:
            names[0] = "BOS"
        return tuple(names)
