"""`neurons check`: the published measurements on a model, each beside its published value, with a verdict."""

from typing import Annotated

import typer

from neurons.cli.common import JsonOption, print_json, print_table
from neurons.cli.options import on_study
from neurons.comparison.published import PROMPTS_PUBLISHED as FULL
from neurons.comparison.published import check_replicable, shown
from neurons.comparison.results import Check, Checks, conclusion
from neurons.study.study import Study
from neurons.types import InputError

LEAST = 50
"""Prompts of the smallest sample: a standard error from fewer means little."""
COLUMNS = ("verdict", "measurement", "measured", "published", "difference", "tolerance", "bound", "source")


def register(app: typer.Typer) -> None:
    app.command()(check)


@on_study("task", "template")
def check(
    study: Study,
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
    check_replicable(study.plan.layers, study.plan.checkpoint.config.n_layers)
    found = study.checks(FULL if full else sample)
    if as_json:
        print_json(found.to_json())
    else:
        print_checks(found)


def print_checks(found: Checks) -> None:
    """Numbers, then what is a list, then the sum of it."""
    lists = [check for check in found.checks if isinstance(check.measured, tuple)]
    numbers = [check for check in found.checks if check not in lists]
    print_table(
        f"{found.model}: the published measurements, on {found.n_prompts:,} prompts of the published distribution",
        COLUMNS,
        [_row(check) for check in numbers],
        left=2,
        caption="difference: measured minus published (minus the bound, where words were published); tolerance: three"
        " standard errors; bound: where the value must lie, by more than the tolerance",
    )
    print()
    print_table(
        "Lists: the same, or in the same order", COLUMNS, [_row(check) for check in lists], left=2,
        caption="difference: of an order, the narrowest gap between neighbours",
    )  # fmt: skip
    print(f"\n{conclusion(found)}")


def _row(check: Check) -> list[str]:
    values = (check.measured, check.published, check.difference, check.tolerance, check.bound)
    return [check.verdict, check.name, *map(shown, values), check.source]
