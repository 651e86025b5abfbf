"""The published prompt distribution: a noun and a year drawn independently and uniformly, 768 years with GPT-2.

1. The years are those of centuries 10-18 that the published filter keeps (`prompts.published_years`).
2. `size` prompts are drawn, with replacement, and sorted by noun, so that neighbours share the tokens before the year.
3. Each has the 01-counterfactual of its noun and century, except for century 10 with GPT-2's tokenizer: " 1001"
   splits as " 100" and "1", and the corrupted run would not be aligned.

`prompts.year_spans` makes other prompts: every start year of few pairs of noun and century.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from neurons.task.nouns import NOUNS
from neurons.task.prompts import PUBLISHED_CENTURIES, published_years, usable_years, year_tokens
from neurons.task.templates import YEAR_SPAN, Tokenizer
from neurons.types import InputError


@dataclass(frozen=True, eq=False)
class Sample:
    """P prompts of T tokens, Q distinct 01-counterfactuals.

    noun [P]: row in `nouns`. counterfactual [P]: row in counterfactual_tokens, -1 where there is none.
    years: for each century, the start years that prompts are drawn from. year_position: the position of YY.
    """

    nouns: tuple[str, ...]
    years: dict[int, tuple[int, ...]]
    tokens: Int[np.ndarray, "P T"]
    noun: Int[np.ndarray, " P"]
    century: Int[np.ndarray, " P"]
    start_year: Int[np.ndarray, " P"]
    counterfactual: Int[np.ndarray, " P"]
    counterfactual_tokens: Int[np.ndarray, "Q T"]
    year_token_ids: Int[np.ndarray, "100"]
    year_position: int

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_years(self) -> int:
        """Number of years to draw from."""
        return sum(map(len, self.years.values()))

    @property
    def has_counterfactual(self) -> Bool[np.ndarray, " P"]:
        return self.counterfactual >= 0

    @property
    def year(self) -> Int[np.ndarray, " P"]:
        """All four digits."""
        return 100 * self.century + self.start_year

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every token."""
        h = hashlib.sha256()
        for part in (self.tokens, self.counterfactual_tokens, self.start_year, self.counterfactual):
            h.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        return h.hexdigest()

    @property
    def shared(self) -> int:
        """Number of leading positions that do not depend on the year: those before XX."""
        return self.year_position - 1


def published_sample(tokenizer: Tokenizer, *, size: int, seed: int = 0) -> Sample:
    """Draw `size` prompts of the published distribution; the draw depends on `seed` only.

    Raises `InputError` for a size below 1, a tokenizer without BOS, single-token years or any usable year, or where no
    prompt has a 01-counterfactual.
    """
    if size < 1:
        raise InputError(f"{size} prompts asked for: draw at least 1")
    if tokenizer.bos_token_id is None:
        raise InputError("this tokenizer has no BOS token: the prompts begin with <|endoftext|>")
    bare = year_tokens(tokenizer)
    years = {century: published_years(tokenizer, century) for century in PUBLISHED_CENTURIES}
    nouns = tuple(word for word in NOUNS if len(tokenizer.encode(" " + word, add_special_tokens=False)) == 1)
    if not any(years.values()) or not nouns:
        raise InputError("this tokenizer splits every year or noun of the published prompts: use GPT-2's tokenizer")
    noun, century, start_year = _draw(len(nouns), years, size, np.random.default_rng(seed))
    rows = zip(noun.tolist(), century.tolist(), start_year.tolist(), strict=True)
    tokens = _encode(tokenizer, [(nouns[n], c, y) for n, c, y in rows])
    aligned = [century for century, kept in years.items() if kept and 1 in usable_years(tokenizer, century)]
    counterfactual, pairs = _counterfactuals(noun, century, aligned)
    if not pairs:
        raise InputError(f"none of the {size} prompts drawn has a 01-counterfactual with this tokenizer: draw more")
    return Sample(
        nouns=nouns,
        years=years,
        tokens=tokens,
        noun=noun,
        century=century,
        start_year=start_year,
        counterfactual=counterfactual,
        counterfactual_tokens=_encode(tokenizer, [(nouns[n], c, 1) for n, c in pairs], tokens.shape[1]),
        year_token_ids=bare,
        year_position=_position(tokens, bare[start_year]),
    )


def _draw(
    n_nouns: int, years: dict[int, tuple[int, ...]], size: int, rng: np.random.Generator
) -> Int[np.ndarray, "3 P"]:
    """Noun, century and start year of each prompt, sorted in this order."""
    every = np.array([(century, year) for century, kept in years.items() for year in kept])
    drawn = np.column_stack([rng.integers(n_nouns, size=size), every[rng.integers(len(every), size=size)]])
    return drawn[np.lexsort(drawn.T[::-1])].T


def _counterfactuals(
    noun: Int[np.ndarray, " P"], century: Int[np.ndarray, " P"], aligned: list[int]
) -> tuple[Int[np.ndarray, " P"], list[tuple[int, int]]]:
    """Which counterfactual each prompt has, and their pairs of noun and century."""
    pairs: dict[tuple[int, int], int] = {}
    rows = [
        pairs.setdefault((n, c), len(pairs)) if c in aligned else -1
        for n, c in zip(noun.tolist(), century.tolist(), strict=True)
    ]
    return np.array(rows), list(pairs)


def _encode(tokenizer: Tokenizer, prompts: list[tuple[str, int, int]], length: int = 0) -> Int[np.ndarray, "n T"]:
    texts = [YEAR_SPAN.fill(*prompt) for prompt in prompts]
    rows = [[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)] for text in texts]
    length = length or len(rows[0])
    if any(len(row) != length for row in rows):
        raise InputError(f"the prompts of template {YEAR_SPAN.text!r} have different lengths with this tokenizer")
    return np.array(rows, dtype=np.int32).reshape(len(rows), length)


def _position(tokens: Int[np.ndarray, "P T"], year_ids: Int[np.ndarray, " P"]) -> int:
    """The first column that holds every prompt's own YY."""
    return int((tokens == year_ids[:, None]).all(0).argmax())
