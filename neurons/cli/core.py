"""Commands on a model and its neurons: `behaviour`, `rank`, `effect`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cache.format import format_layers
from neurons.cli.common import JsonOption, print_json, print_table
from neurons.cli.options import on_study
from neurons.ranking.results import Order
from neurons.study.study import Study
from neurons.task.years import contrast_weights, spans
from neurons.types import InputError, Measure, NeuronId
from neurons.weights.results import NeuronStatistics

if TYPE_CHECKING:
    from neurons.attribution.position_results import Positions
    from neurons.attribution.results import ShapleyValues
    from neurons.ranking.results import OrderComparison, Ranking

SHAPLEY = 50
"""Neurons whose Shapley values are sampled."""
WEIGHTS = ("skew", "kurtosis", "norm", "cos in/out", "years", "class")
ORDERED = {
    "attribution": "share of the probability difference",
    "direct": "direct effect",
    "sharpness": "share of the cutoff sharpness",
    "total": "total effect of each neuron alone",
}
COLUMNS_CAPTION = (
    "written: share with later neurons held; direct: year-specific part, logits; centre: start year it is most tuned"
    " to; edge: years raised there"
)
WEIGHTS_CAPTION = (
    "skew, kurtosis: of the cosine of w_out with every token; norm: of w_out; cos in/out: of w_in and w_out;"
    " years: share of the cosine's variance between two-digit years and the rest"
)


YearOption = Annotated[
    int | None, typer.Option("--year", help="Rank for one start year: which neurons boost year > YY.")
]
OrderOption = Annotated[
    Order | None,
    typer.Option("--order", help="Order by this.", show_default="attribution; direct with --no-attribution"),
]
TopOption = Annotated[
    int | None, typer.Option("--top", min=1, help="Only the first K.", show_default="20; all with --json")
]
StatsOption = Annotated[
    bool,
    typer.Option("--stats", help="Also statistics of each neuron over the vocabulary (loads the model once; kept)."),
]
ShapleyOption = Annotated[
    bool, typer.Option("--shapley", help="Also sampled Shapley values of the first 50 neurons (runs the model).")
]
ApproximationsOption = Annotated[
    bool,
    typer.Option("--approximations", help="Also compare shares with their approximations (runs the model once; kept)."),
]


def register(app: typer.Typer) -> None:
    for command in (behaviour, rank, effect):
        app.command()(command)


@on_study("no_attribution")
def behaviour(
    study: Study,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Also with the MLPs of --layers resample-ablated (loads the model)."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure probability difference, cutoff sharpness and logit step.

    Beside the clean run: the corrupted run and the average distribution over start years.
    """
    found = study.behaviour(resample=resample)
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        [name.replace("_", " "), *(_mean_and_sd(summary) for summary in value.values())]
        for name, value in found.summaries().items()
    ]
    title = f"{found.model}: {found.n_prompts} prompts, start years {spans(found.start_years)}"
    late = (
        f"; mlps resampled: MLPs {format_layers(study.plan.layers)} at END from the corrupted run" if resample else ""
    )
    print_table(
        f"{title}; mean (sd over prompts)",
        ["", "probability difference", "cutoff sharpness", "logit step"],
        rows,
        caption="counterfactual: YY replaced by 01, scored against the true YY; average distribution: the mean over"
        f" all start years{late}",
    )


def _mean_and_sd(summary: dict[str, float]) -> str:
    sd = f" ({summary['sd']:.3f})" if "sd" in summary else ""
    return f"{summary['mean']:+.4f}{sd}"


@on_study()
def rank(
    study: Study,
    year: YearOption = None,
    order: OrderOption = None,
    top: TopOption = None,
    stats: StatsOption = False,
    shapley: ShapleyOption = False,
    approximations: ApproximationsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank neurons by their share of the answer."""
    if year is not None and year not in study.plan.years:
        raise InputError(f"start year {year:02d} is not measured: choose within {spans(study.plan.years)}")
    if shapley and not study.plan.settings.attribution:
        raise InputError("--shapley shows Shapley values beside shares: leave out --no-attribution")
    ranking = study.ranking(year, order=order)
    statistics = study.neuron_statistics() if stats else None
    values = study.shapley(ranking.neurons[:SHAPLEY]) if shapley else None
    compared = study.approximations() if approximations else None
    positions = study.positions() if study.plan.settings.attribution else None
    if as_json:
        print_json(_rank_json(ranking, top, statistics, values, compared, positions))
        return
    print_ranking(ranking, top or 20, statistics)
    if positions is not None:
        print(_before_end(positions))
    if values is not None:
        _print_shapley(ranking, values)
    if compared is not None:
        _print_orders(compared)


def _rank_json(
    ranking: "Ranking",
    top: int | None,
    statistics: NeuronStatistics | None,
    values: "ShapleyValues | None",
    compared: "OrderComparison | None",
    positions: "Positions | None",
) -> dict[str, Any]:
    found = ranking.to_json(top)
    if statistics is not None:
        found["neurons"] = [one | {"statistics": statistics.record(one["neuron"])} for one in found["neurons"]]
    found |= {} if values is None else {"shapley": values.to_json()}
    found |= {} if positions is None else {"positions": positions.to_json()}
    return found | ({} if compared is None else {"approximations": compared.to_json()})


def _before_end(positions: "Positions") -> str:
    leading = ", ".join(f"{neuron} at {positions.names[at]}" for neuron, at, _ in positions.leaders(3))
    return (
        f"before END lies {100 * positions.before_end:.0f} % of the absolute attribution of all neurons of all layers"
        f" (RelP); first there: {leading}"
    )


def _print_shapley(ranking: "Ranking", values: "ShapleyValues") -> None:
    """The largest differences first."""
    share = {neuron: float(ranking.share[ranking.row_of(neuron)]) for neuron in values.neurons}
    found = zip(values.neurons, values.value.tolist(), values.standard_error.tolist(), strict=True)
    rows = sorted(found, key=lambda row: -abs(row[1] - share[row[0]]))
    print_table(
        f"Shapley values of the first {len(rows)} neurons, {values.samples} samples",
        ["neuron", "share", "Shapley value", "standard error"],
        [[str(neuron), _signed(share[neuron]), _signed(value), f"{error:.4f}"] for neuron, value, error in rows],
        left=1,
        caption="of the probability difference; largest difference first",
    )


def _print_orders(compared: "OrderComparison") -> None:
    frame = compared.to_frame()
    rows = [[row[0], *("–" if value != value else f"{value:+.3f}" for value in row[1:])] for row in frame.to_numpy()]
    print_table(
        "Shares beside their approximations and plain scores",
        list(frame.columns),
        rows,
        left=1,
        caption="kept_k: part of clean minus floor that the first k recover; cpr: area under it over the fraction of"
        " neurons kept; cmd: area between it and 1",
    )


def print_ranking(ranking: "Ranking", top: int, statistics: NeuronStatistics | None) -> None:
    records = [ranking.record(row) for row in range(min(len(ranking), top))]
    rows = [
        [str(r["rank"]), r["neuron"], _signed(r["share"]), _range(r), _signed(r["written_share"]),
         _signed(r["sharpness_share"]), _signed(r["year_specific"]), _year(r["tuning_centre"]), _edge(r), _verdict(r),
         *(_weights(statistics, r["neuron"]) if statistics else ())]
        for r in records
    ]  # fmt: skip
    columns = ["rank", "neuron", "share", "95 % interval", "written", "sharpness", "direct", "centre", "edge", ""]
    about = "" if statistics is None else f"; {WEIGHTS_CAPTION}"
    of_year = "" if ranking.start_year is None else f" at start year {ranking.start_year:02d}"
    print_table(
        f"{ranking.model}: {ORDERED[ranking.order]}{of_year}, {len(ranking)} neurons, layers"
        f" {format_layers(ranking.layers)}, {ranking.n_prompts} prompts",
        columns if statistics is None else [*columns, *WEIGHTS],
        rows,
        left=2,
        caption=f"{_answer(ranking)}; {COLUMNS_CAPTION}{about}",
    )


def _answer(ranking: "Ranking") -> str:
    boosting, suppressing = int(ranking.boosting.sum()), int(ranking.suppressing.sum())
    calls = f"{boosting} neurons boost, {suppressing} suppress"
    if ranking.answer is None:
        return f"no attribution: {calls} by direct effect, whose interval is shown"
    main: Measure = "probability_difference"
    about = ranking.answer
    ks = ", ".join(f"{level} % {'–' if k is None else k}" for level, k in about.k[main].items())
    return (
        f"probability difference {about.clean[main]:.3f}, floor {about.floor[main]:.3f}; first neurons that recover of"
        f" what lies between (held-out centuries): {ks}; {calls}"
    )


def _weights(statistics: NeuronStatistics, neuron: str) -> list[str]:
    """The columns `WEIGHTS` of one neuron."""
    found = statistics.record(neuron)
    numbers = [found["skew"], found["kurtosis"], found["norm"], found["in_out_cosine"]]
    share = found["explained"]["years"]
    return [
        *("–" if value is None else f"{value:.2f}" for value in numbers),
        "–" if share is None else f"{100 * share:.0f} %",
        ", ".join(found["neuron_classes"]),
    ]


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _year(value: int | None) -> str:
    return "–" if value is None else f"{value:02d}"


def _edge(record: dict[str, Any]) -> str:
    """The years that a neuron raises where it is most tuned."""
    if record["readout_edge"] is None:
        return "–"
    return f"{'>' if record['edge_gap'] > 0 else '≤'} {record['readout_edge']:02d}"


def _range(record: dict[str, Any]) -> str:
    if record["ci_low"] is None:
        return "needs 2 centuries"
    return f"{record['ci_low']:+.4f} .. {record['ci_high']:+.4f}"


def _verdict(record: dict[str, Any]) -> str:
    return "boosting" if record["boosting"] else "suppressing" if record["suppressing"] else ""


@on_study("years", "no_attribution")
def effect(
    study: Study,
    neuron: Annotated[str, typer.Argument(help="A neuron by layer and index, like L9N12.")],
    year: Annotated[int, typer.Option("--year", help="The start year YY.")],
    as_json: JsonOption = False,
) -> None:
    """Direct logit effect of one neuron at one start year."""
    named, model = NeuronId.parse(neuron), study.plan.checkpoint.name
    weights = contrast_weights([year])[0]
    study.plan.checkpoint.config.check_neuron(named, study.plan.layers)
    logits = study.effect(named, year)
    contrast = float(logits @ weights)
    if as_json:
        print_json({"model": model, "neuron": str(named), "start_year": year, "logits": logits.tolist(),
                    "contrast": contrast})  # fmt: skip
        return
    rows = [[f"{tens}_", *(f"{1000 * v:+.1f}" for v in logits[10 * tens : 10 * tens + 10])] for tens in range(10)]
    print_table(
        f"{model} {named}: direct effect on each year's logit, start year {year:02d}, in thousandths of a logit",
        ["", *(f"_{units}" for units in range(10))],
        rows,
        caption=f"contrast (mean over years > {year:02d} minus mean over the others): {contrast:+.5f} logits",
    )
