"""GPT-2's byte-level tokenizer from a checkpoint's files, without importing transformers.

Settings that change a text's ids in a way of their own are left aside (`without_settings`): the space that
`add_prefix_space` puts in front, padding, truncation, dropout of merges. Prompts are encoded as they are written.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from neurons.types import CheckpointError, InputError

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, eq=False)
class Gpt2Tokenizer:
    """A thin layer over `tokenizers.Tokenizer`: what prompts need of it, and `decode`."""

    backend: tokenizers.Tokenizer

    @cached_property
    def bos_token_id(self) -> int | None:
        return self.backend.token_to_id(END_OF_TEXT)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def token_to_id(self, token: str) -> int | None:
        """The id of a token of the vocabulary; None where it has none."""
        return self.backend.token_to_id(token)

    def decode(self, token_id: int) -> str:
        return self.backend.decode([token_id], skip_special_tokens=False)

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size()


def load_tokenizer(folder: Path) -> Gpt2Tokenizer:
    """Read `tokenizer.json`, or `vocab.json` and `merges.txt`.

    Raises `InputError` when the folder has neither, `CheckpointError` when they cannot be read.
    """
    whole, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    try:
        if whole.is_file():
            return Gpt2Tokenizer(without_settings(tokenizers.Tokenizer.from_file(str(whole))))
        if vocab.is_file() and merges.is_file():
            return Gpt2Tokenizer(_from_merges(vocab, merges))
    except Exception as error:  # the library raises bare Exception for malformed files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"the tokenizer in {folder} cannot be read ({reason}): fetch or save it again") from None
    raise InputError(f"{folder} has no tokenizer: put GPT-2's vocab.json and merges.txt, or tokenizer.json, there")


def without_settings(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A copy that adds no space in front, pads, truncates and drops nothing."""
    saved = json.loads(backend.to_str())
    saved |= {"padding": None, "truncation": None, "model": saved["model"] | {"dropout": None}}
    saved["pre_tokenizer"] = _without_space(saved["pre_tokenizer"])
    return tokenizers.Tokenizer.from_str(json.dumps(saved))


def _without_space(saved: Any) -> Any:
    if isinstance(saved, list):
        return [_without_space(one) for one in saved]
    if isinstance(saved, dict):
        return {name: False if name == "add_prefix_space" else _without_space(value) for name, value in saved.items()}
    return saved


def _from_merges(vocab: Path, merges: Path) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(vocab), str(merges)))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([END_OF_TEXT])
    return backend
