"""neurons: which MLP neurons make GPT-2 say a year later than the start year, and how they add up to ">".

    import neurons

    study = neurons.Study("mini")                    # or "gpt2", a checkpoint directory, a model in memory
    study.ranking().to_frame().head(20)              # builds the cache of activations, once
    study.report()                                   # -> path of index.html

Names are imported when they are first used: `import neurons` loads neither torch nor h5py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Attributed": "neurons.attribution.results",
    "Attribution": "neurons.attribution.results",
    "Behaviour": "neurons.task.behaviour",
    "Cache": "neurons.cache.format",
    "Clustering": "neurons.clustering.results",
    "Composition": "neurons.regression.results",
    "AblationContext": "neurons.intervention.context",
    "InputError": "neurons.types",
    "Intervention": "neurons.task.intervention",
    "LogitEffects": "neurons.decomposition.effects",
    "Model": "neurons.model.checkpoint",
    "NeuronEffects": "neurons.intervention.results",
    "NeuronId": "neurons.types",
    "NeuronStatistics": "neurons.weights.results",
    "NeuronsError": "neurons.types",
    "Study": "neurons.study.study",
    "PromptSet": "neurons.task.prompt_set",
    "Ranking": "neurons.ranking.results",
    "Recovery": "neurons.attribution.recovery",
    "ShapleyValues": "neurons.attribution.results",
    "Task": "neurons.task.tasks",
    "Template": "neurons.task.templates",
    "Tuning": "neurons.clustering.results",
    "attribute": "neurons.attribution.shares",
    "attributed": "neurons.ranking.sets",
    "cache_activations": "neurons.cache.build",
    "cluster": "neurons.clustering.clusters",
    "compose": "neurons.regression.composition",
    "attribution_patching": "neurons.attribution.patching",
    "ablation_context": "neurons.intervention.context",
    "find_task": "neurons.task.tasks",
    "neuron_population": "neurons.decomposition.population",
    "group_effect": "neurons.intervention.exact",
    "load_model": "neurons.model.checkpoint",
    "logit_effects": "neurons.decomposition.effects",
    "measured_behaviour": "neurons.decomposition.measured",
    "neuron_effects": "neurons.intervention.exact",
    "neuron_statistics": "neurons.weights.statistics",
    "open_cache": "neurons.cache.format",
    "custom_task": "neurons.task.tasks",
    "plain_logit_lens": "neurons.decomposition.effects",
    "PromptFile": "neurons.task.own_prompts",
    "rank": "neurons.ranking.ranking",
    "read_prompts": "neurons.task.own_prompts",
    "shapley": "neurons.attribution.shapley",
    "tune": "neurons.clustering.tuning",
    "year_spans": "neurons.task.prompts",
}

__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from neurons.attribution.patching import attribution_patching
    from neurons.attribution.recovery import Recovery
    from neurons.attribution.results import Attributed, Attribution, ShapleyValues
    from neurons.attribution.shapley import shapley
    from neurons.attribution.shares import attribute
    from neurons.cache.build import cache_activations
    from neurons.cache.format import Cache, open_cache
    from neurons.clustering.clusters import cluster
    from neurons.clustering.results import Clustering, Tuning
    from neurons.clustering.tuning import tune
    from neurons.decomposition.effects import LogitEffects, logit_effects, plain_logit_lens
    from neurons.decomposition.measured import measured_behaviour
    from neurons.decomposition.population import neuron_population
    from neurons.intervention.context import AblationContext, ablation_context
    from neurons.intervention.exact import group_effect, neuron_effects
    from neurons.intervention.results import NeuronEffects
    from neurons.model.checkpoint import load_model
    from neurons.model.model import Model
    from neurons.ranking.ranking import rank
    from neurons.ranking.results import Ranking
    from neurons.ranking.sets import attributed
    from neurons.regression.composition import compose
    from neurons.regression.results import Composition
    from neurons.study.study import Study
    from neurons.task.behaviour import Behaviour
    from neurons.task.intervention import Intervention
    from neurons.task.own_prompts import PromptFile, read_prompts
    from neurons.task.prompt_set import PromptSet
    from neurons.task.prompts import year_spans
    from neurons.task.tasks import Task, custom_task, find_task
    from neurons.task.templates import Template
    from neurons.types import InputError, NeuronId, NeuronsError
    from neurons.weights.results import NeuronStatistics
    from neurons.weights.statistics import neuron_statistics


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'neurons' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
