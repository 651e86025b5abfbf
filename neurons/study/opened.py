"""What a study opens: the model, loaded at most once; the cache, opened or built once; results, computed once.

A result is kept in the object, and beside the cache for the next process. Its key is the cache's key, the settings and
the version of the analysis. Imports inside the methods are for start-up time: a study of kept results loads no torch.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from neurons.cache.folder import default_folder, is_there
from neurons.cache.format import Cache, open_cache
from neurons.cache.layout import DTYPE, check_dtype
from neurons.model.files import Checkpoint, find_checkpoint
from neurons.parallel import is_spread
from neurons.remembered import beside
from neurons.shown import Shown
from neurons.study.settings import Plan, Settings
from neurons.task.own_prompts import PromptFile
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import DEFAULT_NOUNS, Centuries
from neurons.task.tasks import Task, choose_task
from neurons.task.years import spans
from neurons.types import Bars, InputError, NeuronId, no_bars, parse_device

if TYPE_CHECKING:
    from neurons.decomposition.cells import Activations
    from neurons.intervention.context import AblationContext
    from neurons.model.model import Model

Result = TypeVar("Result")
KEPT = {
    "statistics": ("neurons.weights.results:NeuronStatistics", "1"),
    "text": ("neurons.weights.results:TextStudy", "1"),
    "specificity": ("neurons.weights.specificity_results:Specificity", "1"),
    "neighbours": ("neurons.weights.results:NeighboursOfAll", "1"),
    "attribution": ("neurons.attribution.results:Attributed", "4"),
    "positions": ("neurons.attribution.position_results:Positions", "1"),
    "sets": ("neurons.ranking.set_results:SetStudy", "1"),
    "interchange": ("neurons.ranking.set_results:Interchange", "2"),
    "elsewhere": ("neurons.ranking.set_results:OnOtherPrompts", "3"),
    "masks": ("neurons.ranking.mask_results:LearnedMasks", "1"),
    "orders": ("neurons.ranking.results:OrderComparison", "2"),
    "routes": ("neurons.routes.results:Routes", "2"),
    "ablations": ("neurons.intervention.results:Ablations", "3"),
    "curves": ("neurons.intervention.curve_results:CurvesAndPublished", "3"),
    "components": ("neurons.intervention.results:ComponentEffects", "2"),
    "clusters": ("neurons.clustering.results:Clustering", "5"),
    "composition": ("neurons.regression.results:Composition", "4"),
    "faithfulness": ("neurons.regression.faithfulness_results:Faithfulness", "1"),
    "of_each": ("neurons.regression.faithfulness_results:FaithfulnessOfEach", "1"),
    "tiling": ("neurons.regression.tiling_results:Tiling", "1"),
    "circuit": ("neurons.circuit.results:CircuitStudy", "4"),
    "check": ("neurons.comparison.results:Checks", "4"),
}
"""The results that are kept beside the cache: the type of each, and the version of its analysis, raised when its code
gives other numbers."""
OF_THE_RANKING = {"clusters", "composition", "faithfulness", "tiling", "circuit", "ablations", "curves", "specificity"}
"""Results of neurons that the ranking chooses: by attribution or by direct effect."""
OF_WEIGHTS = {"statistics", "text", "neighbours"}
"""Results that depend on neither start years nor seed."""


def always(result: object) -> bool:
    return True


def silent(text: str) -> None:
    """Discard a message."""


class Opened(Shown):
    """One model on one prompt set, with what analyses start from: each opened, loaded or computed once.

    model: `mini`, a GPT-2 of the hub, a checkpoint directory, or what `load_model` returned. layers: the MLP layers
    that are cached and analysed; default the last third. years: the start years measured; default those of 02-98 that
    have a prompt. nouns, centuries, seed, bos: as in `year_spans`. task or template: other prompts; prompts: a set or a
    file of your own (`read_prompts`). attribution: whether the ranking is by attribution, which runs the model
    once; else by direct effect. all_prompts: analyses of many runs take every prompt, where they would take a sample
    (large models). device: where the model runs. bars: opens a progress bar for each long computation;
    note: called with each message to the person. jobs, scheduler: where the cache is built, see docs/cluster.md.

    `plan` is what the settings mean for this checkpoint: prompts, layers, start years, where the cache lies.

    Nothing is loaded or written here. Raises `InputError` for settings that do not fit the model, `CheckpointError`
    for a checkpoint that cannot be found or read.
    """

    def __init__(
        self,
        model: Any = "mini",
        *,
        layers: Iterable[int] | None = None,
        years: Iterable[int] | None = None,
        nouns: int | Sequence[str] = DEFAULT_NOUNS,
        centuries: Centuries = "all",
        seed: int = 0,
        bos: bool = True,
        task: str | Task | None = None,
        template: str | None = None,
        prompts: PromptSet | PromptFile | None = None,
        dtype: str = DTYPE,
        attribution: bool = True,
        all_prompts: bool = False,
        device: str = "cpu",
        cache_dir: str | os.PathLike[str] | None = None,
        jobs: int | None = None,
        scheduler: str | None = None,
        bars: Bars = no_bars,
        note: Callable[[str], None] = silent,
    ) -> None:
        settings = Settings(
            layers=None if layers is None else tuple(layers),
            years=None if years is None else tuple(years),
            nouns=nouns, centuries=centuries, seed=seed, bos=bos,
            task=task if isinstance(task, Task) else choose_task(task, template),
            prompts=prompts,
            dtype=check_dtype(dtype),
            attribution=attribution, all_prompts=all_prompts,
            device=parse_device(device),
            cache_dir=default_folder() if cache_dir is None else Path(cache_dir),
        )  # fmt: skip
        self.jobs, self.scheduler, self.bars, self.note = jobs, scheduler, bars, note
        self._models: dict[str, Model] = {}
        self._results: dict[str, Any] = {}
        self.plan: Plan = settings.on(self._find(model, settings.cache_dir))
        self.check_spread(jobs, scheduler)

    def _find(self, model: Any, cache_dir: Path) -> Checkpoint:
        if isinstance(model, str | os.PathLike):
            return find_checkpoint(model, remembered=beside(cache_dir))
        if isinstance(model, Checkpoint):
            return model
        from neurons.model.checkpoint import load_model
        from neurons.model.model import Model

        loaded = model if isinstance(model, Model) else load_model(model)
        self._models[loaded.device.type] = loaded
        return loaded.checkpoint

    def summary(self) -> dict[str, object]:
        settings, prompts = self.plan.settings, self.plan.prompts
        return {"model": self.plan.checkpoint.name, "layers": list(self.plan.layers), "prompts": len(prompts),
                "task": settings.task.name, "seed": settings.seed}  # fmt: skip

    def sibling(self, *, task: Task | None = None, years: Sequence[int] | None = None) -> Self:
        """Return the same study on another task, or measured at other start years; a loaded model is shared."""
        settings, plan = self.plan.settings, self.plan
        chosen = settings.task if task is None else task
        other = type(self)(
            plan.checkpoint,
            layers=plan.layers,
            years=settings.years if years is None else years,
            nouns=settings.nouns,
            centuries=settings.centuries,
            seed=settings.seed,
            bos=settings.bos,
            task=chosen,
            prompts=settings.prompts if chosen is settings.task else None,
            dtype=settings.dtype,
            attribution=settings.attribution, all_prompts=settings.all_prompts,
            device=settings.device,
            cache_dir=settings.cache_dir,
            bars=self.bars,
            note=self.note,
        )  # fmt: skip
        other._models = self._models
        return other

    def check_neuron(self, neuron: str | NeuronId) -> NeuronId:
        """Return the neuron named; raises `InputError` for one outside the layers. Nothing is loaded."""
        named = NeuronId.parse(neuron)
        self.plan.checkpoint.config.check_neuron(named, self.plan.layers)
        return named

    def check_spread(self, jobs: int | None, scheduler: str | None) -> None:
        """Raise `InputError` for processes that cannot be asked for, or not with this device."""
        device = self.plan.settings.device
        if is_spread(jobs, scheduler) and device != "cpu":
            raise InputError(f"jobs and scheduler compute on the CPU: leave them out to use {device}")

    def check_nouns(self, count: int | None) -> None:
        """Raise `InputError` for more nouns than the prompts have. Nothing is loaded."""
        most = len(set(self.plan.prompts.noun))
        if count is not None and not 1 <= count <= most:
            raise InputError(f"{count} nouns asked for: these prompts have 1 to {most}")

    @property
    def model(self) -> "Model":
        """The model, loaded when it is first asked for."""
        return self.model_on(self.plan.settings.device)

    def model_on(self, device: str) -> "Model":
        from neurons.model.checkpoint import load_model

        if device not in self._models:
            with self.bars("loading the model"):
                self._models[device] = load_model(self.plan.checkpoint, device=parse_device(device))
        return self._models[device]

    @cached_property
    def cache(self) -> Cache:
        """The cache of activations: opened where it exists, built with progress where it does not."""
        path = self.plan.path
        if is_there(path):
            cache = open_cache(path)
            if not cache.bytes_checked:
                self.note(f"cache {path} is larger than 1 GiB: `neurons cache verify` checks all its bytes")
            return cache
        with self.bars("caching activations") as progress:
            from neurons.cache.build import cache_activations

            return cache_activations(
                self.model,
                self.plan.prompts,
                layers=self.plan.layers,
                dtype=self.plan.settings.dtype,
                cache_dir=self.plan.settings.cache_dir,
                progress=progress,
                jobs=self.jobs,
                scheduler=self.scheduler,
                waiting=self.note,
            )

    @cached_property
    def years(self) -> tuple[int, ...]:
        """The start years measured; the first time, notes say which of 02-98 and which rows are left out."""
        if self.plan.rows_left_out:
            self.note(self.plan.rows_left_out)
        if self.plan.years_left_out:
            left_out = spans(self.plan.years_left_out)
            self.note(f"start years without a prompt are left out: {left_out} (more nouns may have them)")
        return self.plan.years

    def context(self, *, nouns: int | None = None) -> "AblationContext":
        """Return the ablation context: model, cache, the measured prompts (of the first `nouns` nouns)."""
        from neurons.intervention.context import ablation_context

        self.check_nouns(nouns)
        return ablation_context(
            self.model, self.cache, years=self.years, nouns=nouns, activations=self.activations,
            seed=self.plan.settings.seed, all_prompts=self.plan.settings.all_prompts,
        )  # fmt: skip

    @cached_property
    def activations(self) -> "Activations":
        """The activations of the cache by century and start year, each read at most once."""
        from neurons.decomposition.cells import Activations

        return Activations(self.cache)

    def _once(self, name: str, make: Callable[[], Result]) -> Result:
        """Compute a result once a process."""
        if name not in self._results:
            self._results[name] = make()
        found: Result = self._results[name]
        return found

    def kept(self, name: str) -> Any | None:
        """Return the result kept beside the cache under this name and these settings, or None; nothing is computed."""
        if name not in self._results:
            from neurons.cache.results import kept_result

            place, version = KEPT[name]
            module, attribute = place.split(":")
            of_type = getattr(import_module(module), attribute)
            found = kept_result(self.cache, name, self._key(name), of_type, version=version)
            if found is None:
                return None
            self._results[name] = found
        return self._results[name]

    def _keep(
        self, name: str, make: Callable[[], Result], *, default: bool = True, fits: Callable[[Result], bool] = always
    ) -> Result:
        """The kept result where it fits what is asked; else it is made, and kept in its place.

        default: whether the default settings are asked for; results of others are never kept.
        """
        if not default:
            return make()
        found: Result | None = self.kept(name)
        if found is None or not fits(found):
            from neurons.cache.results import keep_result

            found = make()
            keep_result(self.cache, name, self._key(name), found, version=KEPT[name][1])
            self._results[name] = found
        return found

    def _key(self, name: str) -> dict[str, Any]:
        """What a result depends on beside the cache: the weights' results on nothing."""
        chosen = {"attribution": self.plan.settings.attribution} if name in OF_THE_RANKING else {}
        return {} if name in OF_WEIGHTS else self.plan.key | chosen
