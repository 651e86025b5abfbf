"""The options that nearly every command takes: those of `Study`, in the same words.

A command whose first parameter is a study is decorated with `@on_study(...)`: it gets these options in its signature,
and the study that they describe in its first argument. Nothing is loaded until it asks the study for something.
"""

import re
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from neurons.cache import folder
from neurons.cache.layout import DTYPE, Dtype
from neurons.cli.common import note, progress
from neurons.study.opened import silent
from neurons.study.study import Study
from neurons.task.own_prompts import PromptFile, read_prompts
from neurons.task.prompts import DEFAULT_NOUNS, Centuries
from neurons.task.tasks import DEFAULT, TASKS
from neurons.task.years import parse_years
from neurons.types import Device, InputError, no_bars, parse_ranges

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="mini, a GPT-2 of the hub (gpt2, gpt2-medium, NAME@REVISION) or a checkpoint directory."
    ),
]
LayersOption = Annotated[
    str | None, typer.Option("--layers", help="MLP layers, like 8-11.", show_default="the last third")
]
YearsOption = Annotated[
    str | None,
    typer.Option("--years", help="Start years measured, within 01-98.", show_default="those of 02-98 with a prompt"),
]
NounsOption = Annotated[str, typer.Option("--nouns", help="How many nouns, or a file with one noun a line.")]
CenturiesOption = Annotated[
    str,
    typer.Option(
        "--centuries",
        help="all that offer 40 start years, draw (one for each noun), or numbers like 16,17 (16 for 1600-1699).",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw of nouns, and of every random draw.")]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", help="Activations are stored as float32, or as float16 in half the space.")
]
NoAttributionOption = Annotated[
    bool,
    typer.Option("--no-attribution", help="Rank by direct effect, from the cache alone: no shares of the answer."),
]
AllPromptsOption = Annotated[
    bool, typer.Option("--all-prompts", help="Run sets, paths and single effects on all prompts, never on a sample.")
]
CacheDirOption = Annotated[Path, typer.Option("--cache-dir", envvar=folder.VARIABLE, help="Folder of the cache files.")]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="Where the model runs, when it must (mps is checked against the CPU).")
]
TaskOption = Annotated[
    str | None, typer.Option("--task", help=f"Which prompts: {', '.join(TASKS)}.", show_default=DEFAULT.name)
]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        "--template",
        help="Prompts of your own instead, like 'The {noun} cost between $ {XX}{YY} and $ {XX}'.",
        show_default="none",
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts", help="A file of your own prompts: .csv or .jsonl of clean, corrupted, label.", show_default="none"
    ),
]
SkipOption = Annotated[bool, typer.Option("--skip", help="Leave out rows of --prompts that cannot be used.")]
NoBosOption = Annotated[bool, typer.Option("--no-bos", help="Leave out BOS (<|endoftext|>) in front of each prompt.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on standard error.")]
"""A description of one option each; the defaults are those of `common_options`."""

MODEL = "mini"
QUIET = {"bars": no_bars, "note": silent}
Command = Callable[..., None]


def common_options(
    *,
    model: ModelOption = MODEL,
    layers: LayersOption = None,
    years: YearsOption = None,
    nouns: NounsOption = str(DEFAULT_NOUNS),
    centuries: CenturiesOption = "all",
    seed: SeedOption = 0,
    task: TaskOption = None,
    template: TemplateOption = None,
    prompts: PromptsOption = None,
    skip: SkipOption = False,
    no_bos: NoBosOption = False,
    dtype: DtypeOption = DTYPE,
    no_attribution: NoAttributionOption = False,
    all_prompts: AllPromptsOption = False,
    cache_dir: CacheDirOption = folder.FOLDER,
    device: DeviceOption = "cpu",
    quiet: QuietOption = False,
) -> dict[str, Any]:
    """The options as arguments of `Study`; raises `InputError` for text that cannot be read."""
    texts = {"task": task, "template": template}
    others = {"nouns": nouns, "centuries": centuries, **texts, "no_bos": no_bos}
    return texts | {
        "model": model,
        "layers": parse_ranges(layers, what="layers") if layers is not None else None,
        "years": parse_years(years) if years is not None else None,
        "nouns": _parse_nouns(nouns),
        "centuries": _parse_centuries(centuries),
        "seed": seed,
        "bos": not no_bos,
        "prompts": _own_prompts(prompts, skip, **others),
        "dtype": dtype,
        "attribution": not no_attribution,
        "all_prompts": all_prompts,
        "cache_dir": cache_dir,
        "device": device,
        **(QUIET if quiet else {"bars": progress, "note": note}),
    }


OPTIONS = signature(common_options).parameters


def on_study(*without: str) -> Callable[[Command], Command]:
    """Give a command the common options but those named, and the study that they describe as its first argument."""
    return _with_options(lambda options: Study(**options), without)


def on_options(*without: str) -> Callable[[Command], Command]:
    """The same for a command that makes its studies itself: its first argument is the arguments of `Study`."""
    return _with_options(lambda options: options, without)


def _with_options(make: Callable[[dict[str, Any]], Any], without: Sequence[str]) -> Callable[[Command], Command]:
    common = [option for name, option in OPTIONS.items() if name not in without]

    def decorate(command: Command) -> Command:
        _, *own = signature(command).parameters.values()

        @wraps(command)
        def run(**given: Any) -> None:
            options = common_options(**{option.name: given.pop(option.name) for option in common})
            command(make(options), **given)

        arguments = [parameter for parameter in own if parameter.default is Parameter.empty]
        rest = [parameter for parameter in own if parameter not in arguments]
        shown = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in (*arguments, *common, *rest)]
        run.__signature__ = signature(command).replace(parameters=shown)  # type: ignore[attr-defined]
        return run

    return decorate


def _own_prompts(path: Path | None, skip: bool, **others: Any) -> PromptFile | None:
    if path is None:
        if skip:
            raise InputError("--skip leaves out rows of --prompts: name that file too")
        return None
    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if value != OPTIONS[name].default]
    if given:
        raise InputError(f"--prompts brings prompts of its own: leave out {given[0]}")
    return read_prompts(path, skip=skip)


def _parse_centuries(text: str) -> Centuries:
    if text == "draw":
        return "draw"
    if text == "all":
        return "all"
    return parse_ranges(text, what="centuries")


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _parse_nouns(text: str) -> int | Sequence[str]:
    if re.fullmatch(r"\d+", text, flags=re.ASCII):
        return int(text)
    path = Path(text)
    if not is_file(path):
        raise InputError(f"nouns {text!r} is neither a number nor a file with one noun a line")
    try:
        words = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"nouns file {text!r} cannot be read as text: {error}") from None
    return [word for word in words if word]
