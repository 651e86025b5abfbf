"""Control prompts: numbers that are not years, and years without an order.

Control prompts keep the noun, century, YY and last token of a year span, but state no order, or no years.

1. Types with a number are templates filled as year spans are: the same nouns, the same century, every YY, and
   the same token at END, so that only the meaning differs.
2. Spans of months and of weekdays have no YY; each has a prompt for a month or day and noun.
3. A type that the tokenizer cannot express is left out, with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.task.templates import YEAR_SPAN, Template, Tokenizer
from neurons.types import InputError

MONTHS = tuple("January February March April May June July August September October November December".split())
WEEKDAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())


@dataclass(frozen=True)
class ControlPrompts:
    """A type of control prompt: `text` has gaps {noun}, {XX} and {YY}, or {noun} and {word} if it has `words`."""

    name: str
    about: str
    text: str
    words: tuple[str, ...] = ()


KINDS = (
    ControlPrompts("year_span", "a span of years, the task itself", YEAR_SPAN.text),
    ControlPrompts("no_order", "two years, neither before the other",
                   " The {noun} of the year {XX}{YY} was unlike the {noun} of the year {XX}"),
    ControlPrompts("counts", "numbers that are not years, without order",
                   " The {noun} of {XX}{YY} people was unlike the {noun} of {XX}"),
    ControlPrompts("prices", "numbers that are not years, in order",
                   " The price of that {noun} ranges from $ {XX}{YY} to $ {XX}"),
    ControlPrompts("months", "a span of months", " The {noun} lasted from {word} to", MONTHS),
    ControlPrompts("weekdays", "a span of weekdays", " The {noun} lasted from {word} to", WEEKDAYS),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Control:
    """The P prompts of one type. labels: what varies, "02" or "January"; label [P]: which label each prompt has.

    shared: number of leading positions that are equal in all prompts of a noun.
    """

    name: str
    about: str
    example: str
    tokens: Int[np.ndarray, "P T"]
    labels: tuple[str, ...]
    label: Int[np.ndarray, " P"]
    shared: int


@dataclass(frozen=True, eq=False)
class Controls:
    """Every type of control prompt that the tokenizer can express; left_out: the others by name, with the reason."""

    kinds: tuple[Control, ...]
    left_out: dict[str, str]


def controls(tokenizer: Tokenizer, *, nouns: Sequence[str], century: int) -> Controls:
    """Make the control prompts for some nouns and a century (17 for 1700-1799), the year span itself first.

    Raises `InputError` if the year span cannot be made of them, as `year_spans` does.
    """
    made: list[Control] = []
    left_out: dict[str, str] = {}
    for kind in KINDS:
        try:
            made.append(_words(tokenizer, kind, nouns) if kind.words else _numbers(tokenizer, kind, nouns, century))
        except InputError as error:
            if kind.name == KINDS[0].name:
                raise
            left_out[kind.name] = str(error)
    return Controls(tuple(made), left_out)


def _numbers(tokenizer: Tokenizer, kind: ControlPrompts, nouns: Sequence[str], century: int) -> Control:
    prompts: PromptSet = year_spans(tokenizer, nouns=nouns, centuries=(century,), template=Template(kind.text))
    years, label = np.unique(prompts.start_year, return_inverse=True)
    labels = tuple(f"{year:02d}" for year in years.tolist())
    example = prompts.text(int(np.argmax(prompts.start_year >= 32)))
    return Control(kind.name, kind.about, example, prompts.tokens, labels, label.reshape(-1), prompts.year_position)


def _words(tokenizer: Tokenizer, kind: ControlPrompts, nouns: Sequence[str]) -> Control:
    split = [word for word in kind.words if len(tokenizer.encode(" " + word, add_special_tokens=False)) != 1]
    if split:
        raise InputError(f"{split[0]!r} is not a single token with a leading space")
    texts = [kind.text.format(noun=noun, word=word) for noun in nouns for word in kind.words]
    rows = [[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)] for text in texts]
    if len({len(row) for row in rows}) != 1:
        raise InputError("its prompts have different lengths with this tokenizer")
    tokens = np.array(rows, dtype=np.int32)
    label = np.tile(np.arange(len(kind.words)), len(nouns))
    first = tokens[: len(kind.words)]
    shared = int(np.argmin((first == first[0]).all(0)))
    return Control(kind.name, kind.about, texts[0].strip(), tokens, kind.words, label, shared)
