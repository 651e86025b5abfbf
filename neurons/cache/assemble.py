"""Assembly of finished blocks into the one cache file, a block in memory at a time.

1. The datasets are created and the blocks written under a temporary name, the manifest after them.
2. The file is sealed, flushed to disk and renamed: nobody ever sees a part of it under its own name.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurons.cache.folder import replacing
from neurons.cache.integrity import SEAL_SIZE, write_manifest, write_seal
from neurons.cache.layout import MANIFEST, NEURON_CHUNK, PROMPT_CHUNK, Dtype, Sizes, shapes_of, type_of
from neurons.cache.plan import Block, block_places
from neurons.task.prompt_set import PromptSet

FilledBlocks = Iterable[tuple[Block, Mapping[str, np.ndarray]]]


def assemble(
    path: Path,
    prompts: PromptSet,
    sizes: Sizes,
    *,
    attributes: Mapping[str, Any],
    readouts: Iterable[tuple[str, np.ndarray]],
    blocks: FilledBlocks,
) -> None:
    """Write the cache file. Raises `CacheError` when the folder cannot be written; nothing is left then.

    Only the holder of the file's lock may call this, so what an earlier one left behind is cleared away.
    """
    with replacing(path, path.with_name(f".{path.name}.tmp")) as temporary:
        with _Target(temporary) as target, h5py.File(target, "w", userblock_size=SEAL_SIZE) as file:
            _create_datasets(file, prompts, sizes, attributes["dtype"])
            for name, array in _prompt_arrays(prompts):
                file[name][...] = array.astype(file[name].dtype)
            for name, array in readouts:
                file[name][...] = array
            for block, arrays in blocks:
                target.check()
                _write_block(file, block, arrays, sizes.layers)
            file.attrs.update(attributes)
            write_manifest(file)
        write_seal(temporary)


class _Target(io.RawIOBase):
    """A file for HDF5 that never fails: the library crashes at exit when its last writes do.

    The first error is kept and raised by `check`, and when everything is closed.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        if self._error:
            raise self._error

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer) or 0

    def write(self, data: Any) -> int:
        whole = memoryview(data).cast("B")
        written = 0
        try:
            while written < len(whole) and not self._error:
                written += self._file.write(whole[written:]) or 0
        except OSError as error:
            self._error = error
        return len(whole)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def __exit__(self, *error: Any) -> None:
        self._file.close()
        if error[0] is None:
            self.check()


def _create_datasets(file: h5py.File, prompts: PromptSet, sizes: Sizes, stored: Dtype) -> None:
    longest = max(len(word.encode("utf-8")) for word in prompts.noun)
    for name, free in shapes_of(sizes).items():
        if name == MANIFEST:
            continue
        shape = [len(prompts.missing) if n is None else n for n in free]
        number = "<" + np.dtype(type_of(name, stored)).str[1:]
        dtype = h5py.string_dtype("utf-8", longest) if name == "prompts/noun" else number
        chunks = tuple(max(1, min(n, c)) for n, c in zip(shape, (PROMPT_CHUNK, NEURON_CHUNK), strict=False))
        empty = {"maxshape": (None, 2)} if 0 in shape else {}
        file.create_dataset(name, tuple(shape), dtype, chunks=chunks, fletcher32=True, **empty)


def _prompt_arrays(prompts: PromptSet) -> Iterator[tuple[str, np.ndarray]]:
    yield "prompts/tokens", prompts.tokens
    yield "prompts/start_year", prompts.start_year
    yield "prompts/century", prompts.century
    yield "prompts/noun", np.array([word.encode("utf-8") for word in prompts.noun])
    yield "prompts/counterfactual", prompts.counterfactual
    yield "counterfactual/tokens", prompts.counterfactual_tokens
    yield "years/token_ids", prompts.year_token_ids
    if prompts.missing:
        yield "prompts/missing", np.array([(cell.century, cell.year) for cell in prompts.missing])


def _write_block(file: h5py.File, block: Block, arrays: Mapping[str, np.ndarray], layers: tuple[int, ...]) -> None:
    for name, dataset, of_query in block_places(block, layers):
        if of_query:
            _write_rows(file[dataset], block.queries, arrays[name][: len(block.queries)])
        else:
            _write_rows(file[dataset], block.rows, arrays[name][len(block.queries) :])


def _write_rows(dataset: h5py.Dataset, rows: np.ndarray, values: np.ndarray) -> None:
    """A run of consecutive rows at a time: HDF5 is slow at single ones."""
    start = 0
    for stop in [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]:
        if stop > start:
            dataset[int(rows[start]) : int(rows[start]) + stop - start] = values[start:stop]
        start = stop
