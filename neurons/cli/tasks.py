"""`neurons tasks`: what the model does on other prompts, and whether the same neurons do it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from neurons.cache.format import Cache, format_layers
from neurons.cli.common import JsonOption, note, open_measured, print_json, print_table, progress_bar
from neurons.cli.request import Request, with_request
from neurons.task.tasks import DEFAULT, TASKS, Task, find_task
from neurons.types import InputError

if TYPE_CHECKING:
    from neurons.comparison.sharing import Scores
    from neurons.comparison.transfer import Carried, TaskResult, Transfer
    from neurons.decomposition.ranking import Ranking

NAMED = 12


def register(app: typer.Typer) -> None:
    app.command()(tasks)


@with_request("task")
def tasks(
    asked: Request,
    only: Annotated[
        str | None,
        typer.Option("--only", help=f"These tasks, like {','.join(list(TASKS)[1:3])}.", show_default="all"),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help="Hold at most K boosting neurons of each task.", show_default="all"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Other prompts, and --template beside them: behaviour, and whether the year span's neurons do the work there."""
    requests, left_out = _requests(asked, only)
    found = _transfer(requests, left_out, top)
    if as_json:
        print_json(found.to_json())
    else:
        print_transfer(found)


def _requests(asked: Request, only: str | None) -> tuple[list[Request], dict[str, str]]:
    """The year span, then every task asked for; one that nobody named and the model cannot be asked is left out."""
    named = [find_task(name.strip()) for name in only.split(",")] if only is not None else []
    own = [] if asked.choices.task == DEFAULT else [asked.choices.task]
    wanted: dict[str, Task] = {task.name: task for task in [*(named or TASKS.values()), *own] if task != DEFAULT}
    requests, left_out = [_for_task(asked, DEFAULT)], {}
    for name, task in wanted.items():
        try:
            requests.append(_for_task(asked, task))
        except InputError as error:
            if task in named or task in own:
                raise
            left_out[name] = str(error)
    return requests, left_out


def _for_task(asked: Request, task: Task) -> Request:
    return replace(asked.choices, task=task).on(asked.checkpoint)


def _transfer(requests: list[Request], left_out: dict[str, str], top: int | None) -> "Transfer":
    from neurons.comparison.transfer import Transfer

    caches = []
    for asked in requests:
        note(f"{asked.choices.task.name}: {asked.prompts.text(0)}")
        caches.append(open_measured(asked))
    reference = scores_of(ranked(caches[0], requests[0]))
    results = [_result(cache, asked, reference, top) for cache, asked in zip(caches, requests, strict=True)]
    return Transfer(caches[0].model, caches[0].layers, top, tuple(results), left_out)


def ranked(cache: Cache, asked: Request) -> "Ranking":
    from neurons.decomposition.effects import logit_effects
    from neurons.decomposition.ranking import rank

    return rank(logit_effects(cache, years=asked.years), seed=asked.seed)


def scores_of(ranking: "Ranking") -> "Scores":
    """What is compared of a ranking, by layer and index."""
    import numpy as np

    from neurons.comparison.sharing import Scores

    order = np.lexsort((ranking.index, ranking.layer))
    columns = ("layer", "index", "score", "ci_low", "ci_high", "p_value", "boosting", "suppressing")
    return Scores(**{name: getattr(ranking, name)[order] for name in columns})


def _result(cache: Cache, asked: Request, reference: "Scores", top: int | None) -> "TaskResult":
    from neurons.comparison.sharing import share
    from neurons.comparison.transfer import TaskResult
    from neurons.decomposition.measured import measured_behaviour, measured_rows

    task = asked.choices.task
    is_reference = task == DEFAULT
    scores = reference if is_reference else scores_of(ranked(cache, asked))
    return TaskResult(
        name=task.name,
        prompt=task.template.text.strip(),
        right=task.answer,
        source=task.source,
        n_prompts=len(measured_rows(cache, asked.years)),
        behaviour={name: value.summary() for name, value in measured_behaviour(cache, asked.years).items()},
        scores=scores,
        sharing=None if is_reference else share(reference, scores),
        carried=_carried(cache, asked, reference, scores, top),
    )


def _carried(cache: Cache, asked: Request, reference: "Scores", own: "Scores", top: int | None) -> "Carried":
    from neurons.comparison.transfer import carried, groups
    from neurons.intervention.context import ablation_context
    from neurons.intervention.groups import group_measures
    from neurons.model.checkpoint import load_model

    held = groups(reference, own, n_layers=len(cache.layers), top=top)
    with progress_bar(f"removing neurons: {asked.choices.task.name}") as progress:
        ctx = ablation_context(load_model(asked.checkpoint, device=asked.device), cache, years=asked.years)
        measures = group_measures(ctx, held, ablation="resample", progress=progress)
    return carried(measures["probability_difference"], held)


def print_transfer(found: "Transfer") -> None:
    """Behaviour, then how the neurons agree, then which they are."""
    name = found.tasks[0].name
    rows = [[task.name, task.right or "-", *_measures(task)] for task in found.tasks]
    print_table(
        f"{found.model}: what it does on {len(found.tasks)} kinds of prompt, MLPs {format_layers(found.layers)}",
        ["task", "right", "probability difference", "cutoff sharpness", "01-run"],
        rows,
        left=2,
        caption="mean (sd over prompts); later years minus the others, whatever is right; 01-run: the probability"
        " difference with YY replaced by 01",
    )
    print()
    print_table(
        f"Whether {name}'s boosting neurons do the work",
        ["task", "boosting", "suppressing", "rank correlation", "in both", "by chance", f"only {name}", "only here",
         "undecided", f"{name}'s carry", "its own carry"],
        [_agreement(task) for task in found.tasks],
        caption="in both: boosting in each (q < 0.05 for both); only: boosting there, and the score reliably lower in"
        " the other; carry: share of the change of the probability difference when all neurons of the layers are held"
        " at the 01-run",
    )  # fmt: skip
    for task in found.tasks:
        print(f"{task.name}: {task.prompt}")
        if task.sharing:
            print(f"  in both: {_some(task.sharing.both)}\n  only here: {_some(task.sharing.only_second)}")
    for left_out in found.left_out.values():
        print(f"left out: {left_out}")


def _measures(task: "TaskResult") -> list[str]:
    model = [f"{value['mean']:+.4f} ({value['sd']:.3f})" for value in task.behaviour["model"].values()]
    return [*model, f"{task.behaviour['counterfactual']['probability_difference']['mean']:+.4f}"]


def _agreement(task: "TaskResult") -> list[str]:
    carried, sharing = task.carried, task.sharing
    calls = [str(int(called.sum())) for called in (task.scores.boosting, task.scores.suppressing)]
    shares = [
        _share(carried, change, count)
        for change, count in ((carried.reference, carried.n_reference), (carried.own, carried.n_own))
    ]
    if sharing is None:
        return [task.name, *calls, *[""] * 6, *shares]
    correlation = "-" if sharing.rank_correlation is None else f"{sharing.rank_correlation:+.3f}"
    counts = (len(sharing.only_first), len(sharing.only_second), len(sharing.undecided))
    both = [str(len(sharing.both)), f"{sharing.expected_both:.1f}"]
    return [task.name, *calls, correlation, *both, *map(str, counts), *shares]


def _share(carried: "Carried", change: float, count: int) -> str:
    share = carried.share(change)
    return "no neurons" if not count else "no change" if share is None else f"{share:+.1%}"


def _some(neurons: tuple[object, ...]) -> str:
    more = f" and {len(neurons) - NAMED} more" if len(neurons) > NAMED else ""
    return (", ".join(map(str, neurons[:NAMED])) or "none") + more
