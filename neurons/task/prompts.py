"""Prompt sets: a template filled with nouns, centuries and start years, as far as the tokenizer allows.

A start year XXYY is usable if it splits into exactly two tokens, " XX" and the bare "YY", as in the
released code of Hanna, Liu and Variengien (2023). Each noun is crossed with each century, and each pair has every
start year of its century: nothing but YY varies within a pair, and its prompts share everything before YY. The
centuries replicate (`neurons.intervals`); nouns of one century hardly differ in what neurons do.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int

from neurons.task.prompt_set import NO_BOS, Missing, PromptSet
from neurons.task.templates import YEAR_SPAN, Template, Tokenizer, check_aligned, year_position
from neurons.task.years import KNOWN_CENTURIES, N_YEARS, check_centuries
from neurons.types import InputError, check_is, check_whole, elements, quoted

if TYPE_CHECKING:
    pass

PUBLISHED_CENTURIES = tuple(range(10, 19))
FULL_CENTURY = 95
"""A century is drawn for a noun only if it offers this many start years after the published filter."""
REPLICATE = 40
"""A century is a replicate only if it offers this many start years."""
DEFAULT_NOUNS = 3
Centuries = Literal["all", "draw"] | Sequence[int]


def year_tokens(tokenizer: Tokenizer) -> Int[np.ndarray, "100"]:
    """Return the ids of the bare tokens "00".."99"; raises `InputError` if a two-digit year is not one token.

    They are read off the vocabulary where the tokenizer shows it, else encoded.
    """
    ids = [_bare(tokenizer, f"{year:02d}") for year in range(N_YEARS)]
    split = [f"{year:02d}" for year, tokens in enumerate(ids) if len(tokens) != 1]
    if split:
        raise InputError(
            f"this tokenizer has no single token for the year {split[0]}"
            f" ({len(split)} of 100 two-digit years are split): use a checkpoint with GPT-2's tokenizer"
        )
    if len({tokens[0] for tokens in ids}) != N_YEARS:
        raise InputError("this tokenizer gives one token to several two-digit years: use GPT-2's tokenizer")
    return np.array([tokens[0] for tokens in ids], dtype=np.int32)


def _bare(tokenizer: Tokenizer, digits: str) -> list[int]:
    """The ids of two digits without a space in front."""
    look_up = getattr(tokenizer, "token_to_id", None)
    found = look_up(digits) if look_up is not None else None
    return tokenizer.encode(digits, add_special_tokens=False) if found is None else [found]


def usable_years(tokenizer: Tokenizer, century: int) -> tuple[int, ...]:
    """Return the start years YY for which " XXYY" splits into " XX" and the bare "YY"."""
    bare = year_tokens(tokenizer)
    prefix = tokenizer.encode(f" {century:02d}", add_special_tokens=False)
    if len(prefix) != 1:
        return ()
    return tuple(
        year
        for year in range(N_YEARS)
        if tokenizer.encode(f" {century:02d}{year:02d}", add_special_tokens=False) == [prefix[0], bare[year]]
    )


def published_years(tokenizer: Tokenizer, century: int) -> tuple[int, ...]:
    """Start years kept as published: two tokens, the second of two digits, without the first and the last.

    768 years over centuries 10-18 with GPT-2's tokenizer (`hannamw/gpt2-greater-than`). Unlike
    `usable_years` this does not ask that the first token be " XX" itself, because the published
    filter does not: " 1001" is no such year, but the rest of century 10 counts.
    """
    bare = year_tokens(tokenizer)
    splits = [tokenizer.encode(f" {century:02d}{year:02d}", add_special_tokens=False) for year in range(N_YEARS)]
    kept = [year for year, tokens in enumerate(splits) if len(tokens) == 2 and tokens[1] == bare[year]]
    return tuple(kept[1:-1])


def full_centuries(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the centuries with an aligned 01-counterfactual and at least `FULL_CENTURY` start years."""
    return tuple(
        century
        for century in PUBLISHED_CENTURIES
        if 1 in usable_years(tokenizer, century) and len(published_years(tokenizer, century)) >= FULL_CENTURY
    )


def replicates(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Centuries with an aligned 01-counterfactual that offer at least `REPLICATE` start years: 11-18 with GPT-2's."""
    usable = {century: usable_years(tokenizer, century) for century in PUBLISHED_CENTURIES}
    return tuple(century for century, years in usable.items() if 1 in years and len(years) >= REPLICATE)


def year_spans(
    tokenizer: Tokenizer,
    *,
    nouns: int | Sequence[str] = DEFAULT_NOUNS,
    centuries: Centuries = "all",
    seed: int = 0,
    template: Template = YEAR_SPAN,
    bos: bool = True,
) -> PromptSet:
    """All start years of each pair of noun and century.

    bos: whether BOS stands in front; without it the same tokens follow.

    nouns: how many to draw from the template's words, or the words themselves. centuries: "all" pairs every noun
    with every century that replicates (`replicates`); numbers (16 for the years 1600-1699) pair every noun with each
    of them; "draw" one for each noun among the full ones, which leaves few replicates. Where the template allows
    only some centuries, these are taken or drawn from. The draw depends on `seed` only.

    Raises `InputError` for nouns that are not single tokens, centuries without a 01-counterfactual or outside
    the template's, a tokenizer without single-token years or BOS, or a template that does not align with it.
    """
    check_is("tokenizer", tokenizer, Tokenizer, "a tokenizer, like model.tokenizer")
    check_is("template", template, Template, "a Template, like custom_task(text).template")
    check_whole("seed", seed, least=0)
    if bos and tokenizer.bos_token_id is None:
        raise InputError("this tokenizer has no BOS token, with which the prompts begin: leave it out (no BOS)")
    candidates = _candidate_centuries(centuries, template)
    years = {century: usable_years(tokenizer, century) for century in candidates}
    rng = np.random.default_rng(seed)
    words = choose_nouns(tokenizer, nouns, rng, template)
    pairs = _pair_with_centuries(tokenizer, words, centuries, years, rng)
    used = sorted({century for _, century in pairs})
    front = (tokenizer.bos_token_id,) if bos and tokenizer.bos_token_id is not None else ()
    return _assemble(tokenizer, template, pairs, years, _missing_cells(years, used), front)


def choose_nouns(
    tokenizer: Tokenizer, nouns: int | Sequence[str], rng: np.random.Generator, template: Template = YEAR_SPAN
) -> tuple[str, ...]:
    """Return the words asked for, or as many drawn from the template's, each a single token in its gap."""

    def is_single(word: str) -> bool:
        return len(tokenizer.encode(template.as_written(word), add_special_tokens=False)) == 1

    if not isinstance(nouns, str | Iterable):
        nouns = check_whole("nouns", nouns)
        usable = [word for word in template.words if is_single(word)]
        if not 1 <= nouns <= len(usable):
            raise InputError(f"{nouns} nouns asked for: this tokenizer allows 1 to {len(usable)} of our list")
        return tuple(rng.choice(usable, size=nouns, replace=False).tolist())
    words = (nouns,) if isinstance(nouns, str) else elements("nouns", nouns, "a number, or words in a list")
    for word in words:
        check_is("nouns", word, str, "a number, or words in a list")
    words = tuple(dict.fromkeys(words))
    split = [word for word in words if not word or not is_single(word)]
    if split:
        space = " with a leading space" if template.as_written("") else ""
        raise InputError(
            f"noun {split[0]!r} is not a single token{space}"
            f" ({len(split)} of {len(words)} nouns): leave it out or use another word"
        )
    if not words:
        raise InputError("no nouns given: name at least one")
    return words


def _candidate_centuries(centuries: Centuries, template: Template) -> tuple[int, ...]:
    allowed = template.centuries
    if isinstance(centuries, str):
        if centuries not in ("draw", "all"):
            raise InputError(f"invalid centuries {quoted(centuries)}: choose draw, all, or numbers like [16, 17]")
        return tuple(c for c in PUBLISHED_CENTURIES if allowed is None or c in allowed)
    numbers = check_centuries(centuries)
    outside = [century for century in numbers if allowed is not None and century not in allowed]
    if allowed is not None and outside:
        raise InputError(
            f"century {outside[0]} does not fit the prompt {template.text.strip()!r}: choose among"
            f" {', '.join(map(str, allowed))}"
        )
    return tuple(dict.fromkeys(numbers))


def _pair_with_centuries(
    tokenizer: Tokenizer,
    words: Sequence[str],
    centuries: Centuries,
    years: dict[int, tuple[int, ...]],
    rng: np.random.Generator,
) -> list[tuple[str, int]]:
    if isinstance(centuries, str) and centuries == "draw":
        full = [century for century in full_centuries(tokenizer) if century in years]
        if not full:
            raise InputError(
                f"no century offers {FULL_CENTURY} start years with this tokenizer: choose centuries among"
                f" {_list_centuries(tokenizer)}"
            )
        return [(word, int(rng.choice(full))) for word in words]
    if centuries == "all":
        crossed = [century for century in replicates(tokenizer) if century in years]
        if not crossed:
            raise InputError(
                f"no century offers {REPLICATE} start years with this tokenizer: choose centuries among"
                f" {_list_centuries(tokenizer)}"
            )
        return [(word, century) for word in words for century in crossed]
    for century in years:
        if 1 not in years[century]:
            raise InputError(
                f"century {century} has no 01-counterfactual: ' {century:02d}01' does not split into"
                f" ' {century:02d}' and '01' with this tokenizer; choose among"
                f" {_list_centuries(tokenizer)}"
            )
    if not years:
        raise InputError("no century given: name at least one, like 17 for 1700-1799")
    return [(word, century) for word in words for century in years]


def _list_centuries(tokenizer: Tokenizer) -> str:
    return ", ".join(str(c) for c in KNOWN_CENTURIES if 1 in usable_years(tokenizer, c))


def _missing_cells(years: dict[int, tuple[int, ...]], used: Sequence[int]) -> tuple[Missing, ...]:
    return tuple(Missing(century, year) for century in used for year in range(N_YEARS) if year not in years[century])


def _assemble(
    tokenizer: Tokenizer,
    template: Template,
    pairs: Sequence[tuple[str, int]],
    years: dict[int, tuple[int, ...]],
    missing: tuple[Missing, ...],
    front: tuple[int, ...],
) -> PromptSet:
    bare = year_tokens(tokenizer)
    counterfactuals = [[*front, *template.encode(tokenizer, noun, century, 1)] for noun, century in pairs]
    if len({len(row) for row in counterfactuals}) != 1:
        raise InputError(f"the prompts of template {template.text!r} have different lengths with this tokenizer")
    position = year_position(template, np.array(counterfactuals), int(bare[1]))
    check_aligned(template, tokenizer, dict(zip(pairs, counterfactuals, strict=True)), years, bare, position, front)
    usable = [years[century] for _, century in pairs]
    query = np.repeat(np.arange(len(pairs), dtype=np.int32), list(map(len, usable)))
    start_year = np.concatenate([np.array(one, dtype=np.int16) for one in usable])
    base = np.array(counterfactuals, dtype=np.int32)
    tokens = base[query]
    tokens[:, position] = bare[start_year]
    return PromptSet(
        template=template,
        bos=front[0] if front else NO_BOS,
        tokens=tokens,
        start_year=start_year,
        century=np.array([century for _, century in pairs], dtype=np.int16)[query],
        noun=tuple(word for (word, _), one in zip(pairs, usable, strict=True) for _ in one),
        counterfactual=query,
        counterfactual_tokens=base,
        year_token_ids=bare,
        year_position=position,
        missing=missing,
    )
