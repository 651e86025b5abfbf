"""A text file as windows of tokens, read a piece at a time: memory does not grow with its length.

1. Pieces end before white space, so that tokens are those of the whole text.
2. A window is as many tokens as the model's context or `WINDOW`, <|endoftext|> first; the last one is shorter.
3. A token is part of a year where the digits around it make a number from 1000 to 2099.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from neurons.model.model import Model
from neurons.types import InputError
from neurons.weights.files import bytes_of

WINDOW, AT_ONCE = 256, 16
"""Tokens of a window, windows run at once."""
SHORTEST = 200
"""Tokens that a text must have."""
FIRST, LAST = 1000, 2099
NEEDED = f"give a UTF-8 text of at least {SHORTEST} tokens"


@dataclass(frozen=True, eq=False)
class TextFile:
    """A text of the user's, as the model reads it."""

    path: Path
    model: Model

    def windows(self) -> Iterator[Int[np.ndarray, "B T"]]:
        """Windows of tokens, up to `AT_ONCE` of one length together.

        Raises `InputError` for a file that cannot be read, is empty or too short, or is not UTF-8.
        """
        bos, waiting, seen = self.model.tokenizer.bos_token_id, list[int](), 0
        front = [] if bos is None else [bos]
        size = min(self.model.config.n_ctx, WINDOW) - len(front)
        for piece in self._pieces():
            found = self.model.tokenizer.encode(piece)
            seen += len(found)
            waiting += found
            while len(waiting) >= AT_ONCE * size:
                yield np.array([front + waiting[at * size : (at + 1) * size] for at in range(AT_ONCE)])
                waiting = waiting[AT_ONCE * size :]
        if seen < SHORTEST:
            raise InputError(f"text file {str(self.path)!r} has {seen} tokens: {NEEDED}")
        whole = len(waiting) // size
        if whole:
            yield np.array([front + waiting[at * size : (at + 1) * size] for at in range(whole)])
        if len(waiting) > whole * size:
            yield np.array([front + waiting[whole * size :]])

    def _pieces(self) -> Iterator[str]:
        decoder, rest, empty = codecs.getincrementaldecoder("utf-8")(), "", True
        try:
            for part in bytes_of(self.path):
                empty, text = False, rest + decoder.decode(part)
                cut = max(text.rfind(" "), text.rfind("\n"))
                cut = cut if cut > 0 else len(text)
                yield text[:cut]
                rest = text[cut:]
            rest += decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise InputError(f"text file {str(self.path)!r} is not UTF-8 ({error.reason}): {NEEDED}") from None
        if empty:
            raise InputError(f"text file {str(self.path)!r} is empty: {NEEDED}")
        if rest:
            yield rest

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Each token of the vocabulary as text."""
        return tuple(self.model.tokenizer.decode(token) for token in range(self.model.config.d_vocab))

    @cached_property
    def _digits(self) -> tuple[str, ...]:
        """Digits of each token that is nothing else but a leading space, else nothing."""
        bare = (text[1:] if text.startswith(" ") else text for text in self.texts)
        return tuple(text if text.isascii() and text.isdigit() else "" for text in bare)

    def on_years(self, tokens: Int[np.ndarray, "B T"]) -> Bool[np.ndarray, "B T"]:
        """Which tokens are part of a year."""
        return np.stack([self._of_one(row) for row in tokens.tolist()])

    def _of_one(self, row: list[int]) -> Bool[np.ndarray, " T"]:
        found, start = np.zeros(len(row), bool), 0
        while start < len(row):
            stop = start + 1
            while stop < len(row) and self._digits[row[stop]] and not self.texts[row[stop]].startswith(" "):
                stop += 1
            number = "".join(self._digits[token] for token in row[start:stop])
            if self._digits[row[start]] and len(number) == 4 and FIRST <= int(number) <= LAST:
                found[start:stop] = True
            start = stop
        return found
