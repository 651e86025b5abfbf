"""`neurons check`: the published measurements on a model, each beside its published value, with a verdict.

1. The prompts of the published distribution are run, and some of them again with each MLP patched (`sampled.py`).
2. Maps come from the cache file, entropy-like neurons from the neuron statistics, the rest from the model.
3. A model of GPT-2 small's shape with its tokenizer is judged; any other is measured the same way, without verdicts.

What is finished is kept beside the cache: blocks of prompts for a run that was interrupted, the result for the report.
"""

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from neurons.cache.format import Cache, format_layers
from neurons.cache.parts import Parts, parts_beside
from neurons.cache.results import keep_result, kept_result
from neurons.cli.common import JsonOption, open_measured, print_json, print_table, progress_bar
from neurons.cli.request import Request, with_request
from neurons.cli.statistics import kept_statistics
from neurons.comparison import published
from neurons.comparison.checks import (
    behaviour_checks,
    circuit_checks,
    curve_checks,
    entropy_check,
    layer_of,
    patch_checks,
    patched_shares,
    token_checks,
)
from neurons.comparison.published import Check, Checks, conclusion, shown, unjudged
from neurons.model.files import Checkpoint
from neurons.task.prompts import year_spans, year_tokens
from neurons.task.sample import Sample, published_sample
from neurons.task.templates import Template
from neurons.types import InputError

if TYPE_CHECKING:
    from neurons.model.checkpoint import Model

SAMPLE, FULL = 1_000, published.PROMPTS_PUBLISHED
LEAST = 50
"""Prompts of the smallest sample: a standard error from fewer means little."""
PATCHED = 250
"""Prompts of the sample that are patched, at most."""
CIRCUIT = 64
"""Prompts whose residuals at every position are in memory at once."""
KEPT = "check"
COLUMNS = ("verdict", "measurement", "measured", "published", "difference", "tolerance", "source")


def register(app: typer.Typer) -> None:
    app.command()(check)


@with_request("task", "template")
def check(
    asked: Request,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=LEAST, help="Prompts drawn from the published distribution.", show_default="1000"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="As many as were published: 10,000.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The published measurements of GPT-2 small, each beside what was published, with a verdict."""
    if full and sample is not None:
        raise InputError(f"--full draws {FULL:,} prompts: leave out --sample {sample}")
    _check_layers(asked)
    drawn = published_sample(asked.checkpoint.tokenizer, size=FULL if full else sample or SAMPLE, seed=asked.seed)
    found = run_checks(open_measured(asked), asked, drawn)
    if as_json:
        print_json(found.to_json())
        return
    print_checks(found)


def _check_layers(asked: Request) -> None:
    n_layers = asked.checkpoint.config.n_layers
    wanted = sorted({layer_of(layer, n_layers) for layer in published.MLP_ORDER})
    if not set(wanted) <= set(asked.layers):
        raise InputError(
            f"check looks at layers {format_layers(wanted)}, not all among {format_layers(asked.layers)}:"
            " leave out --layers, or name these too"
        )


def is_judged(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint has GPT-2 small's shape and GPT-2's tokenizer, by the ids that the task needs."""
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    if any(getattr(config, name) != size for name, size in published.SHAPE.items()):
        return False
    years = year_tokens(tokenizer)
    return tokenizer.bos_token_id == published.BOS and all(
        years[int(text)] == token for text, token in published.TOKEN_IDS.items()
    )


def run_checks(cache: Cache, asked: Request, sample: Sample) -> Checks:
    """Every measurement, judged where the model can be; kept for the report."""
    from neurons.comparison.check_maps import map_checks
    from neurons.comparison.sampled import patch_mlps, run_sample
    from neurons.decomposition.effects import logit_effects
    from neurons.model.checkpoint import load_model

    effects = logit_effects(cache, years=asked.years)  # refuses start years that the cache has not, before the work
    n_layers, seed, judged = asked.checkpoint.config.n_layers, asked.seed, is_judged(asked.checkpoint)
    model, parts = load_model(asked.checkpoint, device=asked.device), _parts(cache, sample)
    rows = _some(np.flatnonzero(sample.has_counterfactual), PATCHED)
    with progress_bar("the published prompts") as progress:
        run = run_sample(model, sample, parts=parts, progress=progress)
    with progress_bar("patching MLPs") as progress:
        patched = patched_shares(
            sample, rows, run, patch_mlps(model, sample, rows, parts=parts, progress=progress), seed=seed
        )
    lines = (
        *token_checks(sample),
        *behaviour_checks(sample, run, seed=seed),
        *patch_checks(patched),
        *map_checks(effects, n_layers, seed=seed),
        *_curve(model, asked),
        _entropy(model, cache),
        *(circuit_checks(sample, rows, _circuit(model, sample, rows), run, seed=seed) if judged else ()),
    )
    checks = lines if judged else tuple(map(unjudged, lines))
    found = Checks(cache.model, judged, len(sample), len(rows), seed, checks, patched.table)
    keep_result(cache, KEPT, _settings(asked), found)
    parts.remove()
    return found


def kept_checks(cache: Cache, asked: Request) -> Checks | None:
    """What the last `neurons check` on this cache, with these start years and this seed, found; or None."""
    return kept_result(cache, KEPT, _settings(asked), Checks)


def _settings(asked: Request) -> dict[str, Any]:
    return {"years": list(asked.years), "seed": asked.seed}


def _parts(cache: Cache, sample: Sample) -> Parts:
    """Where finished blocks of this sample are kept until all is done."""
    return parts_beside(cache, KEPT, {"sample": sample.digest, "patched": PATCHED})


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many, evenly spread over the nouns."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def _curve(model: "Model", asked: Request) -> tuple[Check, ...]:
    """The keep-top-k curve on its own prompts: one noun and century, no "the year"."""
    from neurons.intervention.curves import among_years, keeping
    from neurons.model.forward import run

    prompts = year_spans(
        model.tokenizer,
        nouns=[published.CURVE_NOUN],
        centuries=[published.CURVE_CENTURY],
        template=Template(published.CURVE_TEMPLATE),
    )
    rows = (prompts.start_year >= 1) & (prompts.start_year <= 98)
    tokens, start_year, year_ids = prompts.tokens[rows], prompts.start_year[rows], prompts.year_token_ids
    layer, n_neurons = layer_of(published.STEP_LAYER, model.config.n_layers), model.config.d_mlp
    shared = prompts.year_position
    post = run(model, tokens, shared=shared, layers=[layer], year_token_ids=year_ids).post[layer]
    order = np.argsort(-post.numpy(force=True).astype(float).var(0), kind="stable")
    sizes = [*(k for k in published.KEPT_BY_VARIANCE if k < n_neurons), n_neurons]
    values = {
        k: among_years(keeping(model, layer, order[:k]), tokens, start_year, year_ids, shared=shared) for k in sizes
    }
    return curve_checks(layer, values, start_year, seed=asked.seed)


def _entropy(model: "Model", cache: Cache) -> Check:
    """From the statistics kept beside the cache, else of the one layer."""
    from neurons.weights.statistics import neuron_statistics

    layer = layer_of(published.ENTROPY_LAYER, model.config.n_layers)
    statistics = kept_statistics(cache)
    if statistics is None:
        with progress_bar("reading the vocabulary") as progress:
            statistics = neuron_statistics(model, [layer], progress=progress)
    return entropy_check(layer, statistics.of_kind("entropy"))


def _circuit(model: "Model", sample: Sample, rows: np.ndarray) -> np.ndarray:
    """Probability difference of each prompt while the published circuit alone runs."""
    from neurons.circuit.evaluation import behaviour_alone
    from neurons.circuit.graph import published_circuit
    from neurons.circuit.paths import patching_of

    found = []
    with progress_bar("the published circuit alone") as progress:
        for start in range(0, len(rows), CIRCUIT):
            part = rows[start : start + CIRCUIT]
            here = patching_of(
                model,
                sample.tokens[part],
                sample.counterfactual_tokens[sample.counterfactual[part]],
                first=sample.year_position,
                start_year=sample.start_year[part],
                year_ids=sample.year_token_ids,
            )
            found.append(behaviour_alone(here, published_circuit(here.layout)).probability_difference)
            progress(start + len(part), len(rows))
    return np.concatenate(found)


def print_checks(found: Checks) -> None:
    """Numbers, then what is a list, then the sum of it."""
    lists = [check for check in found.checks if isinstance(check.measured, tuple)]
    numbers = [check for check in found.checks if check not in lists]
    print_table(
        f"{found.model}: the published measurements, on {found.n_prompts:,} prompts of the published distribution",
        COLUMNS,
        [_row(check) for check in numbers],
        left=2,
        caption="difference: measured minus published, or how far beyond a bound; tolerance: three standard errors",
    )
    print()
    print_table(
        "Lists: the same, or in the same order", COLUMNS, [_row(check) for check in lists], left=2,
        caption="difference: of an order, the narrowest gap between neighbours",
    )  # fmt: skip
    print(f"\n{conclusion(found)}")


def _row(check: Check) -> list[str]:
    values = (check.measured, check.published, check.difference, check.tolerance)
    return [check.verdict, check.name, *map(shown, values), check.source]
