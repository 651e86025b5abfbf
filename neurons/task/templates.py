"""Prompt templates: fixed text with gaps, the words that fit, and the conditions that a template must meet.

Gaps: `{noun}`, `{XX}{YY}` (the start year, once) and a final `{XX}` (the century of the answer), after which the
answer is read. All prompts of a template must have equal length, with YY and END at the same positions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from neurons.task.nouns import NOUNS
from neurons.types import InputError, check_is, check_whole, elements

GAPS = "the gaps are {noun}, {XX}{YY} and a final {XX}"


@runtime_checkable
class Tokenizer(Protocol):
    """What is required of a tokenizer; Hugging Face's satisfy it."""

    @property
    def bos_token_id(self) -> int | None: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True)
class Template:
    """A prompt with gaps. words: the nouns to draw from; centuries: those for which it makes sense, None for any."""

    text: str
    words: tuple[str, ...] = field(default_factory=lambda: NOUNS)  # a factory: help() would print them all
    centuries: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_is("text", self.text, str, "a prompt with gaps")
        for word in elements("words", self.words, "nouns in a tuple"):
            check_is("words", word, str, "nouns in a tuple")
        for century in elements("centuries", self.centuries or (), "numbers like (16, 17)"):
            check_whole("centuries", century)

    def __repr__(self) -> str:
        return f"Template({self.text!r}, {len(self.words)} words)"

    def fill(self, noun: str, century: int, year: int) -> str:
        """Return the prompt's text for one noun, century and start year, with its leading space."""
        filled = self.text.replace("{XX}", f"{century:02d}").replace("{YY}", f"{year:02d}")
        return filled.replace("{noun}", noun)

    def encode(self, tokenizer: Tokenizer, noun: str, century: int, year: int) -> list[int]:
        """Return the tokens of a prompt, without BOS."""
        return tokenizer.encode(self.fill(noun, century, year), add_special_tokens=False)

    def as_written(self, word: str) -> str:
        """Return the word as the tokenizer sees it in its gap: with the space that precedes the gap, if any."""
        before = self.text.partition("{noun}")[0]
        return " " + word if before.endswith(" ") else word


YEAR_SPAN = Template(" The {noun} lasted from the year {XX}{YY} to the year {XX}")


def parse_template(text: str, *, words: Sequence[str] = NOUNS) -> Template:
    """Check a user's template and return it; a space is put in front, as in the published prompts.

    Raises `InputError` for an empty template, a character that cannot be printed, an unknown gap or a stray brace, a
    gap that is missing or repeated, a start year or a century that does not follow a space, or text after the final
    {XX}.
    """
    check_is("template", text, str, "a prompt with gaps")
    stripped = text.strip(" ")
    if not stripped:
        raise InputError(f"the template is empty: write a prompt like {YEAR_SPAN.text.strip()!r}")
    if not stripped.isprintable():
        raise InputError(f"template {stripped!r} holds a character that cannot be printed: write it on one line")
    _check_gaps(stripped)
    return Template(" " + stripped, tuple(words))


def _check_gaps(text: str) -> None:
    unknown = [gap for gap in re.findall(r"\{[^{}]*\}", text) if gap not in {"{noun}", "{XX}", "{YY}"}]
    if unknown:
        raise InputError(f"template {text!r} has the unknown gap {unknown[0]}: {GAPS}")
    if re.search(r"[{}]", re.sub(r"\{(noun|XX|YY)\}", "", text)):
        raise InputError(f"template {text!r} has a brace without its partner: {GAPS}")
    if "{noun}" not in text:
        raise InputError(f"template {text!r} has no {{noun}}: prompts must differ by a word")
    if text.count("{XX}{YY}") != 1 or text.count("{YY}") != 1:
        raise InputError(f"template {text!r} must hold the start year {{XX}}{{YY}} once")
    _check_end(text)


def _check_end(text: str) -> None:
    after = text.rpartition("{XX}")[2]
    if after.startswith("{YY}") or text.count("{XX}") > 2:
        raise InputError(f"template {text!r} must hold {{XX}} twice: in the start year {{XX}}{{YY}} and at the end")
    if after:
        raise InputError(
            f"template {text!r} goes on after the final {{XX}}: the answer is read there, so leave out {after!r}"
        )
    if not re.search(r"(^| )\{XX\}\{YY\}.* \{XX\}$", text):
        raise InputError(f"template {text!r} needs a space before {{XX}}{{YY}} and before the final {{XX}}")
    if re.search(r"\{YY\}\d", text):
        raise InputError(f"template {text!r} has a digit after {{YY}}, which would make it another number")


def year_position(template: Template, tokens: Int[np.ndarray, "Q T"], token_01: int) -> int:
    """Return the position of YY: the one column that holds the bare "01" in every counterfactual, or `InputError`."""
    columns = np.flatnonzero((tokens == token_01).all(0))
    if len(columns) != 1 or columns[0] == tokens.shape[1] - 1:
        raise InputError(
            f"template {template.text!r} must hold the start year once, before the last position: {{XX}}{{YY}}"
        )
    return int(columns[0])


def check_aligned(
    template: Template,
    tokenizer: Tokenizer,
    counterfactuals: Mapping[tuple[str, int], Sequence[int]],
    years: Mapping[int, Sequence[int]],
    bare: Int[np.ndarray, "100"],
    position: int,
    front: Sequence[int],
) -> None:
    """Check that prompts are their 01-counterfactuals with another YY and end with " XX"; one noun of each century is
    tried.

    counterfactuals: tokens, those of `front` first, by noun and century; bare: the tokens of the two-digit years.
    Raises `InputError` if it is not so.
    """
    by_century = {century: (noun, tokens) for (noun, century), tokens in counterfactuals.items()}
    for century, (noun, tokens) in by_century.items():
        if list(tokens[-1:]) != tokenizer.encode(f" {century:02d}", add_special_tokens=False):
            raise InputError(f"template {template.text!r} does not end with the token ' {century:02d}'")
        for year in years[century]:
            expected = [*tokens[len(front) : position], int(bare[year]), *tokens[position + 1 :]]
            if template.encode(tokenizer, noun, century, year) != expected:
                raise InputError(
                    f"template {template.text!r} does not keep '{year:02d}' of {century:02d}{year:02d} a token of its"
                    " own: let words or punctuation follow {YY}"
                )
