"""Pages of a study: the results that its report shows, asked for or kept."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurons.intervention.results import Ablations
from neurons.model.files import ABOUT, BUNDLED
from neurons.report.contents import Contents, cluster_names, paged_neurons
from neurons.report.numbers import neuron_numbers, with_followed
from neurons.report.weight_numbers import FromWeights
from neurons.study.settings import Settings
from neurons.task.own_prompts import PromptFile
from neurons.task.tasks import TASKS
from neurons.types import NeuronId
from neurons.weights.files import digest_of

if TYPE_CHECKING:
    from neurons.study.study import Study


def contents(
    study: "Study",
    neurons: Sequence[str | NeuronId],
    *,
    top: int,
    causal: bool,
    circuit: bool,
    text: str | os.PathLike[str] | None = None,
) -> Contents:
    """Collect the results that the report shows: of these neurons, or of the `top` of the ranking."""
    if text is not None:
        digest_of(Path(text))  # one that cannot be read is refused before anything is computed
    named = tuple(dict.fromkeys(map(study.check_neuron, neurons)))
    chosen = named or paged_neurons(study.ranking(), top)
    return Contents(
        effects=study.effects(),
        ranking=study.ranking(),
        neurons=chosen,
        clustering=study.clusters(),
        composition=study.composition(),
        tiling=study.tiling(),
        faithfulness=study.faithfulness() if study.plan.settings.attribution else None,
        of_each=study.faithfulness_of_each(chosen) if study.plan.settings.attribution else study.kept("of_each"),
        weights=_weights(study, chosen),
        ablations=_ablations(study, run=causal),
        circuit=study.circuit() if circuit else study.kept("circuit"),
        checks=study.kept("check"),
        orders=study.kept("orders"),
        specificity=study.kept("specificity") if text is None else study.specificity(text, chosen),
        routes=study.routes() if causal and study.plan.settings.attribution else study.kept("routes"),
        **_sets(study, run=causal),
        positions=study.positions() if study.plan.settings.attribution else None,
        tokens=study.plan.token_names,
        notes=study.plan.notes,
        seed=study.plan.settings.seed,
        about=next((ABOUT[name] for name, folder in BUNDLED.items() if study.plan.checkpoint.folder == folder), ""),
    )


def one_neuron(study: "Study", neuron: str | NeuronId) -> dict[str, Any]:
    """Return the numbers of one neuron's page."""
    named = study.check_neuron(neuron)
    numbers = neuron_numbers(
        study.effects(), study.ranking(), [named], tuning=study.tuning(), weights=_weights(study, [named]),
        clusters=cluster_names(study.clusters()),
    )  # fmt: skip
    found = (study.kept(name) for name in ("routes", "specificity", "tiling", "of_each"))
    return with_followed(numbers, *found)[str(named)]


def python_command(study: "Study", *, causal: bool, circuit: bool) -> str:
    """The call that makes the report, as its pages show it; a prompt set in memory stands by name."""
    settings, plain = study.plan.settings, Settings()
    changed = [
        f"{name}={getattr(settings, name)!r}"
        for name in ("layers", "years", "nouns", "centuries", "seed", "bos", "dtype", "attribution", "all_prompts")
        if getattr(settings, name) != getattr(plain, name)
    ]
    if settings.task.name in TASKS and settings.task != plain.task:
        changed.append(f"task={settings.task.name!r}")
    elif settings.task != plain.task:
        changed.append(f"template={settings.task.template.text!r}")
    if isinstance(settings.prompts, PromptFile) and settings.prompts.path is not None:
        skip = ", skip=True" if settings.prompts.skip else ""
        changed.append(f"prompts=neurons.read_prompts({str(settings.prompts.path)!r}{skip})")
    elif settings.prompts is not None:
        changed.append("prompts=prompts")
    options = ", ".join(f"{name}=True" for name, yes in (("causal", causal), ("circuit", circuit)) if yes)
    arguments = ", ".join([repr(study.plan.checkpoint.name), *changed])
    return f"neurons.Study({arguments}).report({options})"


def _weights(study: "Study", neurons: Sequence[NeuronId]) -> FromWeights:
    return FromWeights(study.neuron_statistics(), study.texts(neurons), study.neighbours(neurons))


def _sets(study: "Study", *, run: bool) -> dict[str, Any]:
    """What sets of the first neurons by share do; there are none without shares."""
    if not study.plan.settings.attribution:
        return {}
    if run:
        study.sets(), study.sets_elsewhere(), study.interchange()
    return {name: study.kept(name) for name in ("sets", "elsewhere", "interchange", "masks")}


def _ablations(study: "Study", *, run: bool) -> Ablations | None:
    """Exact effects with curves and components, as `neurons causal` shows them together."""
    found: Ablations | None = study.ablations() if run else study.kept("ablations")
    if found is None:
        return None
    if run:
        return replace(study.with_curves(found), layers=study.components())
    curves, published = study.kept("curves") or (None, None)
    return replace(found, curves=curves, published=published, layers=study.kept("components"))
