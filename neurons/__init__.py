"""neurons: which MLP neurons make GPT-2 say a year later than the start year, and how they add up to ">".

    import neurons

    model   = neurons.load_model("mini")             # or "gpt2", or a checkpoint directory
    prompts = neurons.year_spans(model.tokenizer)
    cache   = neurons.cache_activations(model, prompts)
    effects = neurons.logit_effects(cache)           # no model needed from here on
    neurons.rank(effects).to_frame().head(20)

Names are imported when they are first used: `import neurons` loads neither torch nor h5py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Behaviour": "neurons.task.behaviour",
    "Cache": "neurons.cache.format",
    "Clustering": "neurons.analysis.clusters",
    "Composition": "neurons.analysis.composed",
    "Experiment": "neurons.analysis.experiment",
    "InputError": "neurons.types",
    "Intervention": "neurons.task.intervention",
    "LogitEffects": "neurons.analysis.effects",
    "Model": "neurons.model.checkpoint",
    "NeuronEffects": "neurons.analysis.causal_results",
    "NeuronId": "neurons.types",
    "NeuronStatistics": "neurons.analysis.statistics_results",
    "NeuronsError": "neurons.types",
    "PromptSet": "neurons.task.prompts",
    "Ranking": "neurons.analysis.ranking",
    "Task": "neurons.task.tasks",
    "Template": "neurons.task.templates",
    "Tuning": "neurons.analysis.tuning",
    "cache_activations": "neurons.cache.build",
    "cluster": "neurons.analysis.clustering",
    "compose": "neurons.analysis.composition",
    "experiment": "neurons.analysis.experiment",
    "find_task": "neurons.task.tasks",
    "gather": "neurons.analysis.population",
    "group_effect": "neurons.analysis.causal",
    "load_model": "neurons.model.checkpoint",
    "logit_effects": "neurons.analysis.effects",
    "measured_behaviour": "neurons.analysis.measured",
    "neuron_effects": "neurons.analysis.causal",
    "neuron_statistics": "neurons.analysis.statistics",
    "open_cache": "neurons.cache.format",
    "own_task": "neurons.task.tasks",
    "plain_logit_lens": "neurons.analysis.effects",
    "rank": "neurons.analysis.ranking",
    "screen": "neurons.analysis.screen",
    "tune": "neurons.analysis.tuning",
    "year_spans": "neurons.task.prompts",
}

__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from neurons.analysis.causal import group_effect, neuron_effects
    from neurons.analysis.causal_results import NeuronEffects
    from neurons.analysis.clustering import cluster
    from neurons.analysis.clusters import Clustering
    from neurons.analysis.composed import Composition
    from neurons.analysis.composition import compose
    from neurons.analysis.effects import LogitEffects, logit_effects, plain_logit_lens
    from neurons.analysis.experiment import Experiment, experiment
    from neurons.analysis.measured import measured_behaviour
    from neurons.analysis.population import gather
    from neurons.analysis.ranking import Ranking, rank
    from neurons.analysis.screen import screen
    from neurons.analysis.statistics import neuron_statistics
    from neurons.analysis.statistics_results import NeuronStatistics
    from neurons.analysis.tuning import Tuning, tune
    from neurons.cache.build import cache_activations
    from neurons.cache.format import Cache, open_cache
    from neurons.model.checkpoint import Model, load_model
    from neurons.task.behaviour import Behaviour
    from neurons.task.intervention import Intervention
    from neurons.task.prompts import PromptSet, year_spans
    from neurons.task.tasks import Task, find_task, own_task
    from neurons.task.templates import Template
    from neurons.types import InputError, NeuronId, NeuronsError


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'neurons' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
