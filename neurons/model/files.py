"""Find a checkpoint on disk and describe it, without torch: config, weight files, tokenizer, fingerprint.

A name is `mini` (bundled), a directory, or a name of the hub. A hub name is looked up in the hub's local cache first,
so that a second run needs no network. Weights are safetensors; no code is ever loaded.
"""

import errno
import hashlib
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from neurons.model.config import ModelConfig, read_config
from neurons.model.tokenizer import Gpt2Tokenizer, load_tokenizer
from neurons.model.weights import (
    Tensor,
    gpt2_tensors,
    layout_notes,
    read_bytes,
    read_tensors,
    read_weights,
    refuse_nanogpt,
)
from neurons.remembered import Remembered
from neurons.types import CheckpointError, InputError, check_is

if TYPE_CHECKING:
    import torch

BUNDLED = {"mini": Path(__file__).parent / "mini"}
ABOUT = {"mini": "mini is a small GPT-2 trained for this task and shipped with neurons: no evidence about GPT-2."}
"""What must be said with every result of a bundled model."""
HUB_MODELS = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2")
HUB_ALIASES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}
HUB_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "vocab.json", "merges.txt", "tokenizer*.json"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A GPT-2 checkpoint on disk, checked but not loaded.

    notes: what a reader of results must know of how it is stored. remembered: where its fingerprint may be known from.
    """

    name: str
    folder: Path
    config: ModelConfig
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    remembered: Remembered | None = field(default=None, kw_only=True)

    @cached_property
    def tokenizer(self) -> Gpt2Tokenizer:
        return load_tokenizer(self.folder)

    @property
    def for_workers(self) -> str:
        """The directory from which other processes load it."""
        return str(self.folder.resolve())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the name, type, shape and bytes of every tensor that GPT-2 uses."""
        if self.remembered is None:
            return self._hashed()
        files = sorted({tensor.file for tensor in self.tensors.values()})
        places = sorted((name, t.file.name, t.dtype, t.shape, t.start, t.stop) for name, t in self.tensors.items())
        return self.remembered.digest(f"fingerprint of {places}", files, self._hashed)

    def read_weights(self) -> "dict[str, torch.Tensor]":
        """Every tensor that GPT-2 uses, by its name without the `transformer.` prefix, in float32."""
        return read_weights(self.config, self.tensors)

    def _hashed(self) -> str:
        h = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            h.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
            for chunk in read_bytes(tensor):
                h.update(chunk)
        return h.hexdigest()


def find_checkpoint(
    name: str | os.PathLike[str], *, revision: str | None = None, remembered: Remembered | None = None
) -> Checkpoint:
    """Find the checkpoint by its name: `mini`, a directory, or a name of the hub.

    revision: a branch, tag or commit of a hub model; also written NAME@REVISION. remembered: digests of earlier runs;
    the weights are read for their fingerprint only where it is not among them.

    Raises `InputError` for an unknown name or revision, a directory without a checkpoint or another architecture;
    `CheckpointError` for damaged files, or a hub model that is neither on disk nor within reach.
    """
    plain, revision = split_revision(os.fspath(name), revision)
    folder = _locate(plain, revision)
    refuse_nanogpt(folder)
    config = read_config(folder)
    stored = read_tensors(folder)
    used = gpt2_tensors(folder, config, stored)
    notes = layout_notes(config, stored, used)
    if revision is not None:
        notes = (f"revision {revision}, commit {folder.name}", *notes)
    shown = _display_name(plain, folder) + (f"@{revision}" if revision is not None else "")
    return Checkpoint(shown, folder, config, used, notes=notes, remembered=remembered)


def split_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Split NAME@REVISION; a directory's name may hold an @. Raises `InputError` for a revision of what has none."""
    check_is("revision", revision, str | None, "a branch, tag or commit of a hub model")
    if revision is None and "@" in name and not _is_there(name):
        name, _, revision = name.rpartition("@")
    if revision is None:
        return name, None
    if name in BUNDLED or _is_there(name):
        raise InputError(f"{name!r} has no revisions: leave out {revision!r}, or name a model of the hub")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision, flags=re.ASCII):
        raise InputError(f"invalid revision {revision!r}: name a branch, tag or commit, like NAME@checkpoint-400000")
    return name, revision


def _is_there(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _display_name(name: str, folder: Path) -> str:
    is_directory = name not in BUNDLED and Path(name).expanduser().is_dir()
    return folder.resolve().name if is_directory else name.split("/")[-1]


def _locate(name: str, revision: str | None) -> Path:
    if name in BUNDLED:
        return BUNDLED[name]
    wanted = f"{name!r} is no directory: give mini, a GPT-2 name of the hub, or a checkpoint directory"
    try:
        path = Path(name).expanduser()
        is_directory, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError):  # a name too long, a home that is not there
        raise InputError(wanted) from None
    if is_directory and name.strip():
        return path
    if exists and name.strip():
        raise InputError(f"{name!r} is a file: give the directory that holds config.json and model.safetensors")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise InputError(wanted)
    return local_hub_folder(name, revision) or fetch(name, revision)


def local_hub_folder(name: str, revision: str | None = None) -> Path | None:
    """The snapshot of a hub model in the local hub cache, under its short or its full name; no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    candidates = [name, *(full for short, full in HUB_ALIASES.items() if short == name)]
    candidates += [short for short, full in HUB_ALIASES.items() if full == name]
    for repo in candidates:
        try:
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=HUB_FILES, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, OSError):
            continue
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
    return None


def fetch(name: str, revision: str | None = None) -> Path:
    """Fetch a hub model into the local hub cache, with a progress bar, and return its folder.

    A connection that breaks is taken up where it broke. Files are compared with the hub's checksums; one that differs
    is removed. Raises `InputError` for an unknown name or revision, `CheckpointError` where it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo = HUB_ALIASES.get(name, name)
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=HUB_FILES))
    except GatedRepoError:
        raise CheckpointError(f"{repo} is gated: accept its terms on the hub, run `hf auth login`, then this") from None
    except RevisionNotFoundError:
        raise InputError(f"{repo} has no revision {revision!r}: its page on the hub lists branches and tags") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(_unknown(name)) from None
    except Exception as error:
        raise _not_fetched(name, error) from None
    _check_sums(repo, folder)
    return folder


def _not_fetched(name: str, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return CheckpointError(
            f"the disk is full, {name} was not fetched and nothing of it is half kept: free some space, or set"
            " HF_HUB_CACHE to a folder on another disk"
        )
    if name not in HUB_ALIASES and "/" not in name:
        return InputError(_unknown(name))
    return CheckpointError(
        f"{name} is not in the local hub cache and cannot be fetched now ({type(error).__name__}): where"
        f" there is a network run `hf download {HUB_ALIASES.get(name, name)}`, or give a checkpoint"
        " directory; mini works now"
    )


def _check_sums(repo: str, folder: Path) -> None:
    """Compare each file with its checksum, by which the hub's cache names it: SHA-256, or git's SHA-1 of small ones."""
    for file in sorted(folder.rglob("*")):
        blob = file.resolve()
        if not file.is_file() or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
            continue
        digest = hashlib.sha256() if len(blob.name) == 64 else hashlib.sha1(b"blob %d\0" % blob.stat().st_size)
        with blob.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
        if digest.hexdigest() != blob.name:
            file.unlink()
            blob.unlink()
            raise CheckpointError(
                f"{file.name} of {repo} came with another checksum than the hub's and was removed: run again"
            )


def _unknown(name: str) -> str:
    return (
        f"unknown model {name!r}: give mini, a GPT-2 name of the hub ({', '.join(HUB_MODELS)}), or a"
        " directory with config.json and model.safetensors"
    )
