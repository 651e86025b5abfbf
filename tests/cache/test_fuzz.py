"""Whatever happens to a file: right numbers, or one line that refuses it. No crash, no hang, no other file read."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from fuzzer import Watched, numbers_of_cache, numbers_of_checkpoint
from random_gpt2 import write_random_gpt2
from sealed import edited, written

from neurons.cache.integrity import SEAL_SIZE, write_seal

ORIGINAL = Path(__file__).parents[1] / "data" / "cache-v2.h5"
Mutation = Callable[[Path, random.Random], None]

pytestmark = pytest.mark.long


# --- bytes changed, the seal left as it was ---------------------------------------------------------


def flip_a_bit(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def flip_a_bit_of_the_seal(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(SEAL_SIZE)] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def flip_a_bit_of_the_metadata(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    raw[SEAL_SIZE + rng.randrange(4096)] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def truncate(path: Path, rng: random.Random) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.choice([rng.randrange(len(raw)), rng.randrange(600), len(raw) - 1])])


def extend(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice([1, 512, 4096])))


def overwrite(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    start, length = rng.randrange(len(raw)), rng.choice([4, 64, 512, 4096])
    source = rng.randrange(len(raw))
    piece = rng.choice([bytes(length), rng.randbytes(length), bytes(raw[source : source + length]), b"\xff" * length])
    raw[start : start + length] = piece[: len(raw) - start]
    path.write_bytes(raw)


def foreign(path: Path, rng: random.Random) -> None:
    kind = rng.randrange(5)
    if kind == 0:
        path.write_bytes(rng.randbytes(rng.randrange(5000)))
    elif kind == 1:
        np.savez(path.with_suffix(".npz"), x=np.arange(9))
        path.with_suffix(".npz").replace(path)
    elif kind == 2:
        with h5py.File(path, "w") as file:
            file["data"] = np.zeros(9)
    elif kind == 3:
        path.write_bytes(path.read_bytes()[SEAL_SIZE:])
    else:
        path.write_text(rng.choice(["", "neurons-cache 1\n", "neurons-cache 2\n" + "x" * 600]))


# --- another writer: valid HDF5, sealed anew --------------------------------------------------------


def names_in(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
    return found


def put(file: h5py.File, name: str, values: np.ndarray) -> None:
    del file[name]
    file.create_dataset(name, data=values, chunks=True, fletcher32=True)


def swap(file: h5py.File, rng: random.Random) -> None:
    one, other = rng.sample([name for name in names_in(file) if file[name].dtype == np.float32], 2)
    file.move(one, "kept")
    file.move(other, one)
    file.move("kept", other)


def swap_alike(file: h5py.File, rng: random.Random) -> None:
    """Two datasets of one shape: nothing but their digests tells them apart."""
    pairs = [("mlp/0/post", "mlp/1/post"), ("readout/0", "readout_plain/0"), ("final/scale", "final/logsumexp")]
    one, other = rng.choice(pairs)
    file.move(one, "kept")
    file.move(other, one)
    file.move("kept", other)


def change_a_number(file: h5py.File, rng: random.Random) -> None:
    dataset = file[rng.choice([name for name in names_in(file) if file[name].dtype.kind in "fi" and file[name].size])]
    dataset[tuple(rng.randrange(n) for n in dataset.shape)] = rng.choice([0, 1, 77, -1])


def change_the_type(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice([name for name in names_in(file) if file[name].dtype.kind in "fi"])
    put(file, name, file[name][()].astype(rng.choice(["<f8", "<i8", ">f4", "<f2", "<c8", "S4", "<u1"])))


def change_the_shape(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice([name for name in names_in(file) if file[name].size])
    values = file[name][()]
    put(file, name, rng.choice([values[:-1], values[None], values.reshape(-1), np.repeat(values, 2, 0), values[:0]]))


def ask_for_terabytes(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice(["final/scale", "mlp/0/post", "prompts/tokens", "prompts/missing", "manifest", "years/gram"])
    shape = [rng.choice([1 << 20, 1 << 40, 1 << 62]) if rng.random() < 0.6 else n or 1 for n in file[name].shape]
    dtype, chunks = file[name].dtype, tuple(min(n, 16) for n in shape)
    del file[name]
    try:
        file.create_dataset(name, tuple(shape), dtype, chunks=chunks, fletcher32=True)
    except ValueError:  # more than HDF5 itself allows
        return


def link(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice([*names_in(file), "mlp", "mlp/0", "prompts", "years"])
    elsewhere = str(Path(file.filename).parent / "pipe.h5")
    del file[name]
    file[name] = rng.choice(
        [h5py.ExternalLink(elsewhere, "/x"), h5py.SoftLink("/final/scale"), h5py.SoftLink("/nowhere"), file["final"]]
    )


def lie_elsewhere(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice([name for name in names_in(file) if file[name].size and file[name].dtype.kind in "fi"])
    shape, dtype = file[name].shape, file[name].dtype
    elsewhere = str(Path(file.filename).parent / "pipe.h5")
    del file[name]
    if rng.random() < 0.5:
        file.create_dataset(name, shape, dtype, external=[(elsewhere, 0, h5py.h5f.UNLIMITED)])
        return
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(elsewhere, "x", shape)
    file.create_virtual_dataset(name, layout)


def compress(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice([name for name in names_in(file) if file[name].size])
    values = file[name][()]
    del file[name]
    settings = rng.choice([{"compression": "gzip"}, {"shuffle": True}, {"scaleoffset": 0}, {}])
    file.create_dataset(name, data=values.view("u1") if values.dtype.kind == "S" else values, **settings)


def change_an_attribute(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice([*file.attrs, "more"])
    values = [
        "",
        "x" * 64,
        "é",
        0,
        -1,
        2**40,
        1.5,
        True,
        np.zeros(3),
        np.array([], np.int32),
        np.array([5, 0], np.int32),
    ]
    if rng.random() < 0.2 and name in file.attrs:
        del file.attrs[name]
    else:
        file.attrs[name] = rng.choice(values)


def remove(file: h5py.File, rng: random.Random) -> None:
    del file[rng.choice([*names_in(file), "mlp", "mlp/0", "prompts", "years"])]


def add(file: h5py.File, rng: random.Random) -> None:
    group = file[rng.choice(["/", "mlp", "mlp/0", "final"])]
    rng.choice([lambda: group.create_dataset("more", data=np.zeros(3)), lambda: group.create_group("more")])()


def resealed(*edits: Callable[[h5py.File, random.Random], None]) -> Mutation:
    def mutate(path: Path, rng: random.Random) -> None:
        with edited(path) as file:
            rng.choice(edits)(file, rng)

    return mutate


def foreign_with_a_seal(path: Path, rng: random.Random) -> None:
    with written(path) as file:
        file["data"] = np.zeros(rng.randrange(1, 99))
        if rng.random() < 0.5:
            file.attrs.update(format="neurons-cache", format_version=rng.choice([1, 2, 3]), complete=True)
    if rng.random() < 0.3:
        path.write_bytes(bytes(SEAL_SIZE) + rng.randbytes(300))
        write_seal(path)


FAMILIES: dict[str, tuple[Mutation, int]] = {
    "bit": (flip_a_bit, 600),
    "metadata": (flip_a_bit_of_the_metadata, 300),
    "seal": (flip_a_bit_of_the_seal, 100),
    "truncated": (truncate, 200),
    "extended": (extend, 50),
    "overwritten": (overwrite, 200),
    "foreign": (foreign, 100),
    "sealed numbers": (resealed(swap, swap_alike, change_a_number), 120),
    "sealed structure": (resealed(change_the_type, change_the_shape, ask_for_terabytes, compress, remove, add), 200),
    "sealed links": (resealed(link, lie_elsewhere), 80),
    "sealed attributes": (resealed(change_an_attribute), 80),
    "sealed foreign": (foreign_with_a_seal, 40),
}


def test_there_are_enough_mutations() -> None:
    assert sum(count for _, count in FAMILIES.values()) >= 2000


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with Watched() as child:
        yield child


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mutated_cache_gives_right_numbers_or_is_refused(family: str, tmp_path: Path, watched: Watched) -> None:
    """A pipe lies where links lead: who opens it waits for ever, which the watchdog sees."""
    mutate, count = FAMILIES[family]
    right = numbers_of_cache(ORIGINAL)
    os.mkfifo(tmp_path / "pipe.h5")
    refused = 0
    for number in range(count):
        path = tmp_path / f"{number}.h5"
        shutil.copy(ORIGINAL, path)
        mutate(path, random.Random(f"{family} {number}"))
        opened, verified = watched.ask("open", path), watched.ask("verify", path)
        assert verified in ({"became": "numbers", "says": right}, verified | {"became": "refused"}), (
            f"{path}: {verified}"
        )
        if family in {
            "sealed numbers",
            "sealed structure",
            "sealed links",
        }:  # of a writer who lies, the manifest tells; it is read by verify
            assert opened["became"] in {"numbers", "refused"}, f"{path}: {opened}"
        else:
            assert opened in ({"became": "numbers", "says": right}, opened | {"became": "refused"}), f"{path}: {opened}"
        assert "\n" not in opened["says"] + verified["says"], path
        refused += verified["became"] == "refused"
        path.unlink()
    assert refused > 0.8 * count


# --- checkpoints ------------------------------------------------------------------------------------


def change_the_config(folder: Path, rng: random.Random) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    names = [*config, "n_inner", "layer_norm_epsilon", "tie_word_embeddings", "activation_function", "auto_map",
             "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "quantization_config", "dtype"]  # fmt: skip
    values = [0, 1, -1, 3, 7, 2**31, 2**70, 1.5, 1e300, "", "x", None, True, [], {}, [1], {"AutoModel": "evil.Evil"}]
    config[rng.choice(names)] = rng.choice(values)
    if rng.random() < 0.2:
        config.pop(rng.choice(sorted(config)))
    path.write_text(json.dumps(config))


def change_some_bytes(*names: str) -> Mutation:
    def mutate(folder: Path, rng: random.Random) -> None:
        path = folder / rng.choice(names)
        if path.suffix == ".json" or path.name == "merges.txt" or rng.random() < 0.5:
            rng.choice([flip_a_bit, truncate, extend, overwrite])(path, rng)
            return
        raw = bytearray(path.read_bytes())
        raw[rng.randrange(2000)] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)

    return mutate


def change_the_header(folder: Path, rng: random.Random) -> None:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    name = rng.choice(sorted(set(header) - {"__metadata__"}))
    tensor = header[name]
    match rng.randrange(7):
        case 0:
            tensor["shape"] = tensor["shape"][::-1] + rng.choice([[], [1]])
        case 1:
            tensor["dtype"] = rng.choice(["F64", "I32", "F16", "BF16", "U8", "nonsense"])
        case 2:
            tensor["data_offsets"] = [rng.choice([-1, 0, 2**40]), rng.choice([0, 8, 2**62])]
        case 3:
            header["more"] = tensor
        case 4:
            header[name + "x"] = header.pop(name)
        case 5:
            tensor["shape"] = [2**40, 2**40]
        case _:
            header[name] = rng.choice([None, [], "x", {}])
    text = json.dumps(header).encode()
    length = rng.choice([len(text), len(text), len(text), 2**40, 0])
    path.write_bytes(struct.pack("<Q", length) + text + raw[8 + struct.unpack("<Q", raw[:8])[0] :])


def change_the_vocabulary(folder: Path, rng: random.Random) -> None:
    path = folder / "vocab.json"
    vocab = json.loads(path.read_text(encoding="utf-8"))
    for _ in range(rng.choice([1, 5, 200])):
        word = rng.choice(sorted(vocab))
        if rng.random() < 0.4:
            del vocab[word]
        else:
            vocab[word] = rng.choice(
                [0, 1, -1, 10**6, 2**40, "x", None, vocab[word] + 1 if isinstance(vocab[word], int) else 0]
            )
    path.write_text(json.dumps(vocab), encoding="utf-8")


def add_a_file(folder: Path, rng: random.Random) -> None:
    name = rng.choice(["tokenizer.json", "model.safetensors.index.json", "pytorch_model.bin", "modeling_evil.py"])
    (folder / name).write_text(rng.choice(["", "{}", "[]", '{"weight_map": {"a": "../../x"}}', "raise SystemExit(9)"]))
    if rng.random() < 0.5:
        (folder / rng.choice(["model.safetensors", "vocab.json", "merges.txt", "config.json"])).unlink()


CHECKPOINT_FAMILIES: dict[str, tuple[Mutation, int]] = {
    "config": (change_the_config, 150),
    "weights": (change_some_bytes("model.safetensors"), 80),
    "header": (change_the_header, 100),
    "tokenizer": (change_some_bytes("vocab.json", "merges.txt", "config.json"), 80),
    "vocabulary": (change_the_vocabulary, 50),
    "files": (add_a_file, 40),
}


def test_there_are_enough_mutated_checkpoints() -> None:
    assert sum(count for _, count in CHECKPOINT_FAMILIES.values()) >= 500


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gpt2(tmp_path_factory.mktemp("checkpoint") / "small", n_layer=2, n_embd=8, n_head=2)


@pytest.mark.parametrize("family", CHECKPOINT_FAMILIES)
def test_a_mutated_checkpoint_answers_or_is_refused(
    family: str, checkpoint: Path, tmp_path: Path, watched: Watched
) -> None:
    """Other weights answer otherwise, and their fingerprint is another; what may not happen is anything else."""
    mutate, count = CHECKPOINT_FAMILIES[family]
    right, same = numbers_of_checkpoint(checkpoint), 0
    for number in range(count):
        folder = tmp_path / str(number)
        shutil.copytree(checkpoint, folder)
        mutate(folder, random.Random(f"{family} {number}"))
        said = watched.ask("checkpoint", folder)
        assert said["became"] in {"numbers", "refused"}, f"{folder}: {said}"
        assert "\n" not in said["says"], f"{folder}: {said}"
        same += said["says"] == right
        shutil.rmtree(folder)
    assert same < count
