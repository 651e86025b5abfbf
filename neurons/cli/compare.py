"""`neurons compare`: two models or more side by side, as a table, JSON and a page."""

import re
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from neurons.cache.format import Cache, format_layers
from neurons.cli.common import REPORT_DIR, JsonOption, ReportDirOption, note, open_or_build, print_json, print_table
from neurons.cli.compose import kept_kinds
from neurons.cli.request import Choices, Request, with_choices
from neurons.cli.tasks import ranked, scores_of
from neurons.model.files import find_checkpoint
from neurons.remembered import beside
from neurons.types import InputError

if TYPE_CHECKING:
    from neurons.clustering.results import Clustering
    from neurons.comparison.sides import Comparison, Kind, Pair, Side

LONGEST = 200
NAMED = 12


def register(app: typer.Typer) -> None:
    app.command()(compare)


@with_choices()
def compare(
    choices: Choices,
    models: Annotated[
        list[str], typer.Argument(help="Two models or more, as for --model: names, or checkpoint directories.")
    ],
    report_dir: ReportDirOption = REPORT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Models or training checkpoints side by side: behaviour, scores, composed maps, clusters, neurons."""
    if len(models) < 2:
        raise InputError(f"one model named: name another to compare {models[0]!r} with")
    requests = [choices.on(find_checkpoint(model, remembered=beside(choices.cache_dir))) for model in models]
    names = _names(requests)
    found = _compare(requests, names, choices)
    from neurons.report.pages.comparison import write_comparison

    folder = report_dir / folder_name(names, choices)
    page = write_comparison(found, folder=folder, command=shlex.join(["neurons", *sys.argv[1:]]))
    if as_json:
        print_json(found.to_json())
        note(f"The page is in {page}")
        return
    print_comparison(found)
    print(f"The page is in {page}")


def _names(requests: list[Request]) -> list[str]:
    """The models' names; different checkpoints of one name are told apart by their fingerprints, else by place."""
    plain = [asked.checkpoint.name for asked in requests]
    prints = [asked.checkpoint.fingerprint[:6] if plain.count(asked.checkpoint.name) > 1 else "" for asked in requests]
    told = list(zip(plain, prints, strict=True))
    return [
        name
        if plain.count(name) == 1
        else f"{name} {print_}"
        if told.count((name, print_)) == 1
        else f"{name} ({place})"
        for place, (name, print_) in enumerate(told, 1)
    ]


def folder_name(names: list[str], choices: Choices) -> str:
    """`compare-A-B` in letters, digits, dots, dashes and underlines, so that no name leads out of the folder."""
    safe = [re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._") or "model" for name in names]
    return "-".join(["compare", *safe])[:LONGEST] + choices.task.suffix


def _compare(requests: list[Request], names: list[str], choices: Choices) -> "Comparison":
    from neurons.comparison.sides import compare as compare_sides

    sides = []
    for name, asked in zip(names, requests, strict=True):
        note(f"{name}: layers {format_layers(asked.layers)}")
        sides.append(_side(open_or_build(asked), asked, name))
    return compare_sides(sides, task=choices.task.name, start_years=choices.years)


def _side(cache: Cache, asked: Request, name: str) -> "Side":
    import numpy as np

    from neurons.comparison.sides import Side
    from neurons.decomposition.effects import logit_effects
    from neurons.decomposition.measured import measured_behaviour, measured_rows

    ranking = ranked(cache, asked)
    clustering, composition = kept_kinds(logit_effects(cache, years=asked.years), ranking, asked)
    readout = np.concatenate([cache.readout(layer) for layer in cache.layers]).astype(float)
    steps = [term.alone for term in composition.whole.regression.terms if term.term == "step"]
    return Side(
        name=name,
        model_sha256=cache.model_sha256,
        n_layers=asked.checkpoint.config.n_layers,
        layers=cache.layers,
        n_prompts=len(measured_rows(cache, asked.years)),
        behaviour={run: value.summary() for run, value in measured_behaviour(cache, asked.years).items()},
        scores=scores_of(ranking),
        readout=readout - readout.mean(1, keepdims=True),
        contrast=composition.whole.contrast,
        triangle=steps[0] if composition.whole.regression.r2 is not None else None,
        map=composition.whole.map,
        singular_values=composition.whole.singular_values,
        kinds=_kinds(clustering),
    )


def _kinds(clustering: "Clustering") -> "tuple[Kind, ...]":
    from neurons.comparison.sides import Kind

    return tuple(
        Kind(c.id, len(c.members), str(c.medoid), c.share, c.fraction, c.description, c.mean_map)
        for c in clustering.clusters
    )


def print_comparison(found: "Comparison") -> None:
    """A column a model, then each beside the first."""
    lines = {
        "probability difference": [_mean_and_sd(side, "probability_difference") for side in found.sides],
        "cutoff sharpness": [_mean_and_sd(side, "cutoff_sharpness") for side in found.sides],
        "layers compared": [f"{format_layers(side.layers)} of {side.n_layers}" for side in found.sides],
        "neurons": [str(len(side.scores)) for side in found.sides],
        "boosting": [str(int(side.scores.boosting.sum())) for side in found.sides],
        "suppressing": [str(int(side.scores.suppressing.sum())) for side in found.sides],
        "contrast (logits)": [f"{side.contrast:+.4f}" for side in found.sides],
        "largest score": [f"{side.scores.score.max():+.4f}" for side in found.sides],
        "triangle in the map": ["-" if side.triangle is None else f"{side.triangle:.3f}" for side in found.sides],
        "cosine with the first": ["", *("-" if p.map_cosine is None else f"{p.map_cosine:+.3f}" for p in found.pairs)],
        "clusters": [str(len(side.kinds)) for side in found.sides],
    }
    print_table(
        f"{len(found.sides)} models on the task {found.task}",
        ["", *(side.name for side in found.sides)],
        [[name, *values] for name, values in lines.items()],
        caption="mean (sd over prompts); contrast: all scores added up; triangle: R^2 of the step by itself in the"
        " composed map",
    )
    for pair in found.pairs:
        _print_pair(found.sides[0].name, pair)


def _mean_and_sd(side: "Side", measure: str) -> str:
    value = side.behaviour["model"][measure]
    return f"{value['mean']:+.4f} ({value['sd']:.3f})"


def _print_pair(first: str, pair: "Pair") -> None:
    print(f"\n{first} and {pair.name}")
    if pair.neurons is not None:
        sharing = pair.neurons
        correlation = "-" if sharing.rank_correlation is None else f"{sharing.rank_correlation:+.3f}"
        same = "-" if pair.same_index is None else f"{pair.same_index:+.3f}"
        print(
            f"  rank correlation of the scores: {correlation}; what neurons of equal index write: median cosine {same}"
        )
        for name, neurons in (("kept", sharing.both), ("lost", sharing.only_first), ("gained", sharing.only_second),
                              ("undecided", sharing.undecided)):  # fmt: skip
            print(f"  {name}: {len(neurons)}{': ' if neurons else ''}{', '.join(map(str, neurons[:NAMED]))}"
                  f"{', ...' if len(neurons) > NAMED else ''}")  # fmt: skip
    for told in pair.notes:
        print(f"  note: {told}")
