"""Tables of `neurons rank`: the ranking, Shapley values, orders, sets of neurons, learned masks."""

from typing import TYPE_CHECKING, Any

from neurons.cache.format import format_layers
from neurons.cli.common import print_table
from neurons.ranking.mask_results import PARTS
from neurons.ranking.ranking import LEVELS
from neurons.types import Measure
from neurons.weights.results import NeuronStatistics

if TYPE_CHECKING:
    from neurons.attribution.position_results import Positions
    from neurons.attribution.results import ShapleyValues
    from neurons.ranking.mask_results import LearnedMasks
    from neurons.ranking.results import OrderComparison, Ranking
    from neurons.ranking.set_results import Interchange, Members, OnOtherPrompts, PatchedRuns, SetStudy

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


def print_ranking(ranking: "Ranking", top: int, statistics: NeuronStatistics | None) -> None:
    records = [ranking.record(row) for row in range(min(len(ranking), top))]
    rows = [
        [str(r["rank"]), r["neuron"], signed(r["share"]), _range(r), signed(r["written_share"]),
         signed(r["sharpness_share"]), signed(r["year_specific"]), _year(r["tuning_centre"]), _edge(r), _verdict(r),
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


def print_further(ranking: "Ranking", further: dict[str, Any]) -> None:
    """Every table that was asked for."""
    if "positions" in further:
        print(_before_end(further["positions"]))
    if "shapley" in further:
        _print_shapley(ranking, further["shapley"])
    if "approximations" in further:
        _print_orders(further["approximations"])
    if "sets" in further:
        _print_sets(further["sets"], further["elsewhere"], further["interchange"])
    if "masks" in further:
        _print_masks(further["masks"])


def _before_end(positions: "Positions") -> str:
    leading = ", ".join(f"{neuron} at {at} ({positions.names[at]})" for neuron, at, _ in positions.leaders(3))
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
        [[str(neuron), signed(share[neuron]), signed(value), f"{error:.4f}"] for neuron, value, error in rows],
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


def _print_sets(sets: "SetStudy", elsewhere: "OnOtherPrompts", exchanged: "Interchange") -> None:
    """How many are enough, here and on other templates; what the 90 % set leaves out; whose year is answered."""
    rows = [
        [one.measure.replace("_", " "), order, str(prompts), *(count(fewest(level)) for level in LEVELS.values())]
        for one in sets.curves
        for order, prompts, fewest in (
            ("share", sets.n_prompts, one.fewest),
            ("matched random", sets.n_sampled, one.fewest_random),
        )
    ]
    rows += [
        [
            one.measure.replace("_", " "),
            f"share, on {other.name}",
            str(other.n_prompts),
            *(count(one.fewest(level)) for level in LEVELS.values()),
        ]
        for other in elsewhere
        for one in other.recoveries
    ]
    print_table(
        "First neurons that recover a part of clean minus floor",
        ["measure", "order", "prompts", *(f"{level} %" for level in LEVELS)],
        rows,
        left=2,
        caption="chosen on one half of the centuries, measured on the other; on other templates: the same neurons."
        " matched random: neurons exchanged within layer and fifth of activation variance, mean of 5",
    )
    if sets.members is None:
        return
    _print_members(sets.members, sets.seed)
    _print_runs(sets.runs)
    _print_interchange(exchanged, len(sets.members.neurons))


def _print_members(members: "Members", seed: int) -> None:
    rows = [
        ["recovered by the set", f"{members.recovered:.3f}"],
        [f"largest loss without one member ({members.costliest})", f"{members.loss.max():.3f}"],
        [f"largest completeness gap of {len(members.gap)} subsets", f"{members.incompleteness:.3f}"],
    ]
    print_table(
        f"The first {len(members.neurons)} neurons as a set, {members.n_prompts} prompts",
        ["", "part of clean minus floor"],
        rows,
        caption=f"gap: the set against all neurons, both without a random subset of the set (seed {seed}); the worst"
        f" subset has {len(members.worst)} neurons",
    )


def _print_runs(runs: "tuple[PatchedRuns, ...]") -> None:
    rows = [
        [one.direction, one.reference, *(f"{value:.3f}" for value in one.probability_difference),
         *(f"{value:.3f}" for value in one.divergence), one.worst[0].name]
        for one in runs
    ]  # fmt: skip
    print_table(
        "The set in both directions",
        ["direction", "other run", "none", "set", "all", "KL none", "KL set", "KL all", "worst prompt of the set"],
        rows,
        left=2,
        caption="none, set, all: probability difference with none, the set and all neurons kept (keep: others from the"
        " other run) or put into the other run (insert); KL from the whole model's answer, nats",
    )


def _print_interchange(found: "Interchange", k: int) -> None:
    shown = [size for size in (31, 64, k, 256, int(found.sizes[-1])) if size <= found.sizes[-1]]
    rows = [[str(size), *(f"{value:.3f}" for value in found.at(size).values())] for size in sorted(set(shown))]
    print_table(
        "Interchange: the first k neurons from a prompt of another start year",
        ["k", "for that year", "for its own", "distance"],
        rows,
        left=0,
        caption="probability difference scored for the transplanted and for the prompt's own year; distance: total"
        " variation to the other prompt's own answer",
    )


def _print_masks(found: "LearnedMasks") -> None:
    frame = found.to_frame()
    by_share = ["share", "", *(count(found.share_fewest(part)) for part in PARTS.values())]
    rows = [[*by_share, f"{found.share_at(found.k):.3f}", ""]]
    rows += [
        [one.start, str(one.seed), count(one.k_50), count(one.k_80), count(one.k_90), f"{one.recovered:.3f}",
         f"{one.overlap:.2f}"]
        for one in frame.itertuples()
    ]  # fmt: skip
    among = {start: found.overlap_among(start) for start in frame["start"].unique()}
    apart = ", ".join(f"{start} {'–' if value is None else f'{value:.2f}'}" for start, value in among.items())
    print_table(
        f"Masks learned by gradient, {found.steps} steps",
        ["start", "seed", "50 %", "80 %", "90 %", f"first {found.k}", "overlap"],
        rows,
        left=2,
        caption=f"first {found.k}: part that so many recover on centuries held out; overlap: with the first {found.k}"
        f" by share; among seeds: {apart}; without: the first {found.k} by share closed",
    )


def count(value: float | None) -> str:
    """A number of neurons, a dash where there is none."""
    return "–" if value is None or value != value else str(int(value))


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
