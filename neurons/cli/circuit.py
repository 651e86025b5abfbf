"""`neurons circuit`: which parts bring the start year to the answer, how much they carry, what feeds a neuron."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result
from neurons.circuit.graph import Circuit, Layout, layout, published_circuit, read_circuit
from neurons.circuit.results import (
    BREADTH,
    DEPTH,
    N_RANDOM,
    PROMPTS,
    THRESHOLD,
    PreActivation,
    Search,
    Study,
)
from neurons.cli.common import JsonOption, open_measured, print_json, print_table, progress_bar
from neurons.cli.request import Request, with_request
from neurons.types import NeuronId

if TYPE_CHECKING:
    from neurons.intervention.context import AblationContext

PUBLISHED = "gpt2-small"
KEPT = "circuit"
SHOWN = 8
EXPLAINED = 24
"""Boosting neurons whose inputs are explained."""


def register(app: typer.Typer) -> None:
    app.command()(circuit)


@with_request()
def circuit(
    asked: Request,
    depth: Annotated[int, typer.Option("--depth", help="Edges at most between a node and the logits.")] = DEPTH,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Least share of the behaviour's change that an edge must carry.")
    ] = THRESHOLD,
    breadth: Annotated[
        int, typer.Option("--breadth", help="Inputs opened for each level at most, the strongest first.")
    ] = BREADTH,
    given: Annotated[
        str | None,
        typer.Option(
            "--circuit", help="Evaluate this circuit instead: a JSON file, or gpt2-small (the published one)."
        ),
    ] = None,
    neuron: Annotated[
        str | None, typer.Option("--neuron", help="Only what makes up this neuron's pre-activation, like L10N7.")
    ] = None,
    prompts: Annotated[
        int, typer.Option("--prompts", min=1, help="Prompts run, spread over start years and nouns.")
    ] = PROMPTS,
    n_random: Annotated[
        int, typer.Option("--random", min=0, help="Random circuits of the same size to compare with.")
    ] = N_RANDOM,
    as_json: JsonOption = False,
) -> None:
    """The circuit around the neurons: how the start year reaches them, and whether it is enough."""
    search = Search(depth, threshold, breadth)
    named = NeuronId.parse(neuron) if neuron is not None else None
    config = asked.checkpoint.config
    if named is not None:
        config.check_neuron(named, tuple(range(config.n_layers)))
    chosen = _given(given, asked)
    cache = open_measured(asked)
    if named is not None:
        _explain(cache, asked, named, prompts, as_json)
        return
    study = run_study(cache, asked, search=search, chosen=chosen, prompts=prompts, n_random=n_random)
    if as_json:
        print_json(study.to_json())
        return
    print_study(study)


def _given(text: str | None, asked: Request) -> Circuit | None:
    if text is None:
        return None
    where = _layout(asked)
    if text == PUBLISHED:
        return published_circuit(where)
    return read_circuit(Path(text), where)


def _layout(asked: Request) -> Layout:
    config, prompts = asked.checkpoint.config, asked.prompts
    return layout(config.n_layers, config.n_heads, prompts.tokens.shape[1] - prompts.year_position)


def _experiment(cache: Cache, asked: Request) -> "AblationContext":
    from neurons.intervention.context import ablation_context
    from neurons.model.checkpoint import load_model

    return ablation_context(load_model(asked.checkpoint, device=asked.device), cache, years=asked.years)


def run_study(
    cache: Cache,
    asked: Request,
    *,
    search: Search = Search(),  # noqa: B008 - frozen
    chosen: Circuit | None = None,
    prompts: int = PROMPTS,
    n_random: int = N_RANDOM,
) -> Study:
    """The study, with what feeds the strongest boosting neurons; one of a discovered circuit is kept for the report."""
    from neurons.circuit.study import study_circuit
    from neurons.decomposition.effects import logit_effects
    from neurons.decomposition.ranking import rank

    boosting = rank(logit_effects(cache, years=asked.years), seed=asked.seed).boosting_neurons()
    with progress_bar("following paths") as progress:
        study = study_circuit(
            _experiment(cache, asked),
            circuit=chosen,
            search=search,
            neurons=boosting[:EXPLAINED],
            prompts=prompts,
            n_random=n_random,
            seed=asked.seed,
            progress=progress,
        )
    if chosen is None:
        keep_result(cache, KEPT, _settings(asked), study)
    return study


def kept_study(cache: Cache, asked: Request) -> Study | None:
    """The study of the last circuit discovered on this cache with these start years and this seed, or None."""
    return kept_result(cache, KEPT, _settings(asked), Study)


def _settings(asked: Request) -> dict[str, Any]:
    return {"years": list(asked.years), "seed": asked.seed}


def _explain(cache: Cache, asked: Request, neuron: NeuronId, prompts: int, as_json: bool) -> None:
    from neurons.circuit.inputs import explain_neurons
    from neurons.circuit.paths import patching

    (found,) = explain_neurons(patching(_experiment(cache, asked), prompts=prompts), [neuron])
    if as_json:
        print_json({"model": cache.model, **found.to_json()})
        return
    print_inputs(cache.model, found)


def print_inputs(model: str, found: PreActivation) -> None:
    parts = sorted(found.to_json()["parts"], key=lambda part: -abs(part["share"] or 0))
    rows = [[part["component"], _percent(part["share"]), f"{part['mean']:+.4f}"] for part in parts]
    print_table(
        f"{model} {found.neuron}: what makes up its pre-activation at END",
        ["component", "of the tuning", "mean"],
        rows,
        caption="of the tuning: covariance with the pre-activation over start years, as a share of its variance; mean:"
        f" over start years, all sum to {found.total.mean():+.4f}",
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:+.1f} %"


def print_study(study: Study) -> None:
    """The nodes, then the measures."""
    whole = study.found.whole if study.found else None
    without, alone = study.evaluation.left_out, study.evaluation.alone.probability_difference
    entries = study.to_json()["nodes"]
    rows = []
    for entry in entries:
        name = f"{entry['node']}@{entry['position']}"
        left = f"{without[name].probability_difference - alone:+.4f}" if name in without else ""
        rows.append([entry["node"], entry["position"], _percent(entry["effect"] / whole) if whole else "", left])
    print_table(
        f"{study.model}: {study.circuit.name} circuit, {len(study.circuit.nodes)} nodes,"
        f" {len(study.circuit.edges)} edges",
        ["node", "position", "share", "left out"],
        rows,
        left=2,
        caption="share: of the behaviour's change, along the circuit's edges; left out: change of the circuit's"
        " probability difference without the node",
    )
    _print_behaviour(study)
    if study.found is not None and study.found.neurons:
        strongest = ", ".join(map(str, study.found.neurons[:SHOWN]))
        print(f"\n{len(study.found.neurons)} neurons of its MLPs carry 0.1 % or more directly: {strongest}, ...")


def _print_behaviour(study: Study) -> None:
    one = study.evaluation
    cases = {"model": one.model, "circuit alone": one.alone, "all but the circuit": one.complement,
             "01-run": one.counterfactual}  # fmt: skip
    if one.edges_alone is not None:
        cases["its edges alone"] = one.edges_alone
    rows = [[name, f"{k.probability_difference:+.4f}", f"{k.cutoff_sharpness:+.4f}"] for name, k in cases.items()]
    band = one.random_band
    if band:
        rows.append([f"{len(one.random)} random circuits", f"{band['low']:+.4f} .. {band['high']:+.4f}", ""])
    if one.circuit.published:
        rows.append(["published", f"{one.circuit.published['probability_difference']:+.4f}", ""])
    print()
    print_table(
        f"Kept alone, the circuit has {100 * one.share:.1f} % of the model's probability difference",
        ["", "probability difference", "cutoff sharpness"],
        rows,
    )


def prompt_tokens(asked: Request) -> tuple[str, ...]:
    """The tokens of a prompt as words, what changes between prompts in capitals."""
    prompts, tokenizer = asked.prompts, asked.checkpoint.tokenizer
    noun = tokenizer.encode(prompts.template.as_written(prompts.noun[0]))
    first = prompts.tokens[0].tolist()
    names = ["NOUN" if [token] == noun else tokenizer.decode(token).strip() for token in first]
    names[0], names[prompts.year_position] = "BOS", "YY"
    names[prompts.year_position - 1] = names[-1] = "XX"
    return tuple(names)
