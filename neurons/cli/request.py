"""The options that nearly every command takes, and what they mean: a `Request`.

1. `read_choices` declares the options, reads and checks them. 2. `Choices.on` a checkpoint is a `Request`: prompts,
layers, where its cache lies. 3. `with_request` gives a command the options, and the `Request` in their stead. Nothing
is loaded, and torch is not imported.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neurons.cache.format import cache_key, cache_path
from neurons.cache.layout import DTYPE, Dtype, check_dtype
from neurons.model.files import Checkpoint, find_checkpoint
from neurons.remembered import beside
from neurons.task.prompts import PromptSet, year_spans
from neurons.task.tasks import DEFAULT, TASKS, Task, custom_task, find_task
from neurons.task.years import parse_years
from neurons.types import Device, InputError, parse_device, parse_ranges

ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help="mini, a GPT-2 of the hub (gpt2, gpt2-medium, ...) or a checkpoint directory."),
]
LayersOption = Annotated[
    str | None, typer.Option("--layers", help="MLP layers, like 8-11.", show_default="the last third")
]
YearsOption = Annotated[str, typer.Option("--years", help="Start years measured, within 01-98.")]
NounsOption = Annotated[str, typer.Option("--nouns", help="How many nouns, or a file with one noun a line.")]
CenturiesOption = Annotated[
    str,
    typer.Option("--centuries", help="draw (one for each noun), all, or numbers like 16,17 (16 for 1600-1699)."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw of nouns and of the bootstrap.")]
DtypeOption = Annotated[
    str, typer.Option("--dtype", help="Activations are stored as float32, or as float16 in half the space.")
]
CacheDirOption = Annotated[
    Path, typer.Option("--cache-dir", envvar="NEURONS_CACHE_DIR", help="Folder of the cache files.")
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", help="Where the model runs, when it must: cpu, cuda or mps (checked against the CPU)."),
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

MODEL, YEARS, NOUNS, CENTURIES, SEED, DEVICE = "mini", "02-98", "20", "draw", 0, "cpu"
CACHE_DIR = Path("cache")


Command = Callable[..., None]


@dataclass(frozen=True, eq=False)
class Request:
    """What the common options mean for one model: checked, nothing loaded."""

    checkpoint: Checkpoint
    prompts: PromptSet
    layers: tuple[int, ...]
    choices: "Choices"

    @property
    def path(self) -> Path:
        """Where the cache of this request lies, whether it exists or not."""
        key = cache_key(self.checkpoint, self.prompts, self.layers, self.choices.dtype)
        return cache_path(self.choices.cache_dir, self.checkpoint, key)

    @property
    def folder_name(self) -> str:
        """What a report of this request is called: the model, and the task where it is not the default."""
        return self.path.stem.rpartition("-")[0] + self.choices.task.suffix

    @property
    def years(self) -> tuple[int, ...]:
        return self.choices.years

    @property
    def seed(self) -> int:
        return self.choices.seed

    @property
    def cache_dir(self) -> Path:
        return self.choices.cache_dir

    @property
    def device(self) -> Device:
        return self.choices.device


@dataclass(frozen=True)
class Choices:
    """The common options but the model, read and checked. layers None: the last third of the model's."""

    layers: tuple[int, ...] | None
    years: tuple[int, ...]
    nouns: int | Sequence[str]
    centuries: Literal["draw", "all"] | Sequence[int]
    seed: int
    cache_dir: Path
    task: Task
    dtype: Dtype
    device: Device

    def on(self, checkpoint: Checkpoint) -> Request:
        """These options for one model; raises `InputError` for layers that it has not, or prompts it cannot read."""
        layers = checkpoint.config.check_layers(self.layers or checkpoint.config.default_layers)
        self.task.check_words(checkpoint.tokenizer)
        prompts = year_spans(
            checkpoint.tokenizer,
            nouns=self.nouns,
            centuries=self.centuries,
            seed=self.seed,
            template=self.task.template,
        )
        return Request(checkpoint, prompts, layers, self)


def read_choices(
    *,
    layers: LayersOption = None,
    years: YearsOption = YEARS,
    nouns: NounsOption = NOUNS,
    centuries: CenturiesOption = CENTURIES,
    seed: SeedOption = SEED,
    task: TaskOption = None,
    template: TemplateOption = None,
    dtype: DtypeOption = DTYPE,
    cache_dir: CacheDirOption = CACHE_DIR,
    device: DeviceOption = DEVICE,
) -> Choices:
    """Read the common options; raises `InputError` in one line."""
    measured, place = parse_years(years), parse_device(device)
    wanted = parse_ranges(layers, what="layers") if layers is not None else None
    drawn = _parse_centuries(centuries)
    words, stored = _parse_nouns(nouns), check_dtype(dtype)
    return Choices(wanted, measured, words, drawn, seed, cache_dir, _parse_task(task, template), stored, place)


def request(*, model: ModelOption = MODEL, **options: Any) -> Request:
    """`read_choices` for one model; raises `InputError` or `CheckpointError` in one line."""
    choices = read_choices(**options)
    return choices.on(find_checkpoint(model, remembered=beside(choices.cache_dir)))


def with_request(*leave_out: str) -> Callable[[Command], Command]:
    """A command whose first parameter is a `Request` is given the common options, those of `request`, instead."""
    model = signature(request).parameters["model"]
    return _with_options(request, [model, *signature(read_choices).parameters.values()], leave_out)


def with_choices(*leave_out: str) -> Callable[[Command], Command]:
    """The same for a command whose first parameter is `Choices`: it names its models itself."""
    return _with_options(read_choices, [*signature(read_choices).parameters.values()], leave_out)


def _with_options(
    read: Callable[..., Any], options: Sequence[Parameter], leave_out: Sequence[str]
) -> Callable[[Command], Command]:
    common = [option for option in options if option.name not in leave_out]

    def decorate(command: Command) -> Command:
        asked, *own = signature(command).parameters.values()

        @wraps(command)
        def run(**given: Any) -> None:
            options = {option.name: given.pop(option.name) for option in common}
            command(**{asked.name: read(**options)}, **given)

        positional = [parameter for parameter in own if parameter.default is Parameter.empty]
        rest = [parameter for parameter in own if parameter not in positional]
        shown = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in [*positional, *common, *rest]]
        run.__signature__ = Signature(shown)  # type: ignore[attr-defined]
        return run

    return decorate


def _parse_task(name: str | None, template: str | None) -> Task:
    if name is not None and template is not None:
        raise InputError("--task and --template both choose the prompts: give one of them")
    if template is not None:
        return custom_task(template)
    return find_task(name) if name is not None else DEFAULT


def _parse_centuries(text: str) -> Literal["draw", "all"] | Sequence[int]:
    if text == "draw":
        return "draw"
    if text == "all":
        return "all"
    return parse_ranges(text, what="centuries")


def _parse_nouns(text: str) -> int | Sequence[str]:
    if re.fullmatch(r"\d+", text, flags=re.ASCII):
        return int(text)
    path = Path(text)
    if not path.is_file():
        raise InputError(f"nouns {text!r} is neither a number nor a file with one noun a line")
    try:
        words = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"nouns file {text!r} cannot be read as text: {error}") from None
    return [word for word in words if word]
