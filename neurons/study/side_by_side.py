"""Several studies side by side: one model on several tasks, or several models on one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurons.cache.format import format_layers
from neurons.comparison.development import FEWEST
from neurons.comparison.model_results import Comparison, Side
from neurons.comparison.overlap import scores_of, share
from neurons.comparison.results import Carried, Scores, TaskResult, Transfer
from neurons.comparison.sides import compare_sides, side
from neurons.comparison.transfer import carried, groups
from neurons.task.tasks import DEFAULT, TASKS, Task, find_task
from neurons.types import InputError

if TYPE_CHECKING:
    from neurons.study.study import Study


def transfer(study: "Study", only: Sequence[str] | None, *, top: int | None) -> Transfer:
    """Measure the year span, then every task asked for; one that was not named and that the model does not support is
    left out.
    """
    studies, left_out = _on_tasks(study, only)
    for one in studies:
        study.note(f"{one.plan.settings.task.name}: {one.plan.prompts.text(0)}")
        one.cache  # noqa: B018  all caches before the first result
    reference = scores_of(studies[0].ranking())
    results = tuple(_result(one, reference, top) for one in studies)
    cache = studies[0].cache
    return Transfer(cache.model, cache.layers, top, results, left_out)


def _on_tasks(study: "Study", only: Sequence[str] | None) -> "tuple[list[Study], dict[str, str]]":
    named = [find_task(name.strip()) for name in only] if only is not None else []
    custom = [] if study.plan.settings.task == DEFAULT else [study.plan.settings.task]
    wanted: dict[str, Task] = {task.name: task for task in [*(named or TASKS.values()), *custom] if task != DEFAULT}
    studies, left_out = [study.sibling(task=DEFAULT)], {}
    for name, task in wanted.items():
        try:
            studies.append(study.sibling(task=task))
        except InputError as error:
            if task in named or task in custom:
                raise
            left_out[name] = str(error)
    return studies, left_out


def _result(study: "Study", reference: Scores, top: int | None) -> TaskResult:
    task, behaviour = study.plan.settings.task, study.behaviour()
    is_reference = task == DEFAULT
    scores = reference if is_reference else scores_of(study.ranking())
    return TaskResult(
        name=task.name,
        prompt=task.template.text.strip(),
        right=task.answer,
        source=task.source,
        n_prompts=behaviour.n_prompts,
        behaviour=behaviour.summaries(),
        scores=scores,
        sharing=None if is_reference else share(reference, scores),
        carried=_carried(study, reference, scores, top),
    )


def _carried(study: "Study", reference: Scores, own: Scores, top: int | None) -> Carried:
    from neurons.intervention.groups import group_measures  # loads torch

    held = groups(reference, own, n_layers=len(study.cache.layers), top=top)
    with study.bars(f"ablating neurons: {study.plan.settings.task.name}") as progress:
        measures = group_measures(study.context(), held, ablation="random-year", progress=progress)
    return carried(measures["probability_difference"], held)


def compare(studies: "Sequence[Study]") -> Comparison:
    """Compare each model with the first, measured at the start years that all have prompts of."""
    if len(studies) < 2:
        raise InputError(f"only one model given: name another to compare {studies[0].plan.checkpoint.name!r} with")
    shared = set(studies[0].plan.years).intersection(*(study.plan.years for study in studies))
    if not shared:
        raise InputError("no start year has a prompt for every model: choose more nouns or other centuries")
    years = tuple(sorted(shared))
    together = [study if study.plan.years == years else study.sibling(years=years) for study in studies]
    by_step = len(studies) >= FEWEST
    sides = [_side(study, name, by_step) for study, name in zip(together, names(studies), strict=True)]
    return compare_sides(sides, task=studies[0].plan.settings.task.name, start_years=years)


def _side(study: "Study", name: str, by_step: bool) -> Side:
    study.note(f"{name}: layers {format_layers(study.plan.layers)}")
    return side(
        name,
        study.behaviour(),
        study.effects(),
        study.ranking(),
        study.clusters(),
        study.composition(),
        n_layers=study.plan.checkpoint.config.n_layers,
        tiling=study.tiling() if by_step else None,
    )


def names(studies: "Sequence[Study]") -> list[str]:
    """Name the models; different checkpoints of one name are distinguished by their fingerprints, else by place."""
    checkpoints = [study.plan.checkpoint for study in studies]
    plain = [checkpoint.name for checkpoint in checkpoints]
    prints = [c.fingerprint[:6] if plain.count(c.name) > 1 else "" for c in checkpoints]
    pairs = list(zip(plain, prints, strict=True))
    return [
        name
        if plain.count(name) == 1
        else f"{name} {print_}"
        if pairs.count((name, print_)) == 1
        else f"{name} ({place})"
        for place, (name, print_) in enumerate(pairs, 1)
    ]
