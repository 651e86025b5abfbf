"""GPT-2 checkpoints whose greater-than circuit is known by construction: weights set by hand, no training.

How it works. The residual stream is cut into orthonormal directions, all orthogonal to the all-ones
vector, so that the LayerNorms' centring changes none of them (`Space`):

    constant   every position holds a large amount of it, which keeps every LayerNorm's scale near a
               known number whatever the start year: what is planted is what comes out
    century    in tokens like " 17": the planted head's query
    is_year    in "00".."99": the planted head's key
    code       in "00".."99", 32 harmonics of the year: its value. Every smooth function of the year is
               a linear function of the code, and its norm is the same for all years
    answer     read by the unembedding of "00".."99" only, written by planted neurons only
    spare      everything else: tokens' and positions' own vectors, and all that random weights write

One head below layer 8 copies the code from the start year to END. Each planted neuron reads the code
there (its tuning) and writes a profile over the 100 years (its readout). All other heads and neurons are
random, read everything and write to `spare`: tuned, like a real model's, but nothing to the answer. The
unembedding is untied, neighbouring years overlap in it, the final gain is uneven, and what neurons write
and years read has a mean that the final LayerNorm removes: a measure that forgets any of this goes wrong.

One thread: the matrices are small, and two threads on a busy machine only wait for each other.

    planted = write_planted(tmp_path, seed=0)
    planted.roles["greater"]            # NeuronIds that must come out on top
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from neurons.types import NeuronId

MINI = Path(__file__).resolve().parents[1] / "neurons" / "model" / "mini"
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
YEARS = np.arange(100)
MEASURED = np.arange(2, 99)
HARMONICS, CYCLE = 32, 128
"""Year code: cosines and sines of 1..32 turns in 128 years, so 99 and 00 are not neighbours."""
CONSTANT, FEATURE, CODE = 16.0, 4.0, 4.0
"""Amounts of the constant, of `century` and `is_year`, and of the code in the residual."""
YEAR_GAIN = 8.0
"""Logits per unit of the answer directions; large, so that writing the answer hardly moves the norm."""
FLAG, GATE = 4.0, 12.0
"""Amount of the flag that tells two tasks apart, and what a gate takes from a pre-activation (twice)."""
QUIET = 9.0
"""How many logits the tokens that are no years lie below the years."""


@dataclass(frozen=True)
class Shape:
    n_layer: int = 12
    d_mlp: int = 192
    d_model: int = 256
    n_positions: int = 64
    first_writing_layer: int = 8
    d_head: int = 2 * HARMONICS
    """As wide as the code: one head carries it whole."""

    @property
    def n_head(self) -> int:
        return self.d_model // self.d_head


DEFAULT = Shape()


@dataclass(frozen=True)
class Planting:
    """One neuron to plant: what it does, not where.

    `drive` [100] is the wanted pre-activation for each start year, `readout` [100] the logits it adds
    to each answer when its activation is `peak`. `gate`: 1 or -1 silences the neuron unless the prompt holds
    the first or the second marker word; 0 ignores them.
    """

    role: str
    drive: np.ndarray
    readout: np.ndarray
    peak: float
    parameters: Mapping[str, float] = field(default_factory=dict)
    gate: int = 0


@dataclass(frozen=True)
class Planted:
    """A written checkpoint and the truth about it.

    roles: the neurons of each role or kind. head: (layer, head) of the one that copies the start year.
    parameters: what is known of each planted neuron, `low`/`high`/`step` of a window and so on.
    """

    folder: Path
    roles: Mapping[str, tuple[NeuronId, ...]]
    head: tuple[int, int]
    parameters: Mapping[NeuronId, Mapping[str, float]]


# --- what is planted -------------------------------------------------------------------------------


@threadpool_limits.wrap(limits=1)
def write_planted(
    folder: Path,
    *,
    seed: int,
    tokenizer: Path = MINI,
    shape: Shape = DEFAULT,
    greater: int = 32,
    mirrors: int = 10,
    decoys: int = 8,
    height: float = 0.6,
    lean: float = 0.02,
    noise: float = 0.1,
) -> Planted:
    """A model that does greater-than by `greater` neurons, with mirror images and three kinds of decoy.

    Roles: `greater`, `mirror`, and `decoys` neurons each of `orthogonal`, `always_on`, `flat`. `height`
    is how far a 19-year-wide greater neuron moves the logits on either side of its step, `lean` the
    contrast in logits that each always-on neuron adds, `noise` the size of what random weights write.
    """
    rng = np.random.default_rng(seed)
    windows = _windows(rng, greater)
    mirrored = windows[np.sort(rng.choice(greater, mirrors, replace=False))]
    plantings = [_greater(rng, window, height) for window in windows]
    plantings += [replace(_greater(rng, window, -height / 2), role="mirror") for window in mirrored]
    plantings += [_orthogonal(rng, window, height) for window in _windows(rng, decoys)]
    plantings += [_always_on(rng, lean) for _ in range(decoys)]
    plantings += [_flat(rng, height / 2) for _ in range(decoys)]
    return _write(folder, plantings, rng=rng, tokenizer=tokenizer, shape=shape, noise=noise)


@threadpool_limits.wrap(limits=1)
def write_kinds(
    folder: Path,
    *,
    seed: int,
    tokenizer: Path = MINI,
    shape: Shape = DEFAULT,
    each: int = 12,
    jitter: float = 1.0,
    height: float = 0.15,
    noise: float = 0.1,
) -> Planted:
    """A model with `each` neurons of every kind: one shape a kind, moved by up to `jitter` years.

    Roles: step, bump, periodic, always_on, line, ramp. All but always_on have a positive year-specific
    part. `parameters` holds the tuning's `threshold` (step, ramp) or `centre` (bump, periodic).
    """
    rng = np.random.default_rng(seed)
    plantings = []
    for _ in range(each):
        plantings += _kinds(rng.uniform(-jitter, jitter), height * rng.uniform(0.8, 1.2))
    return _write(folder, plantings, rng=rng, tokenizer=tokenizer, shape=shape, noise=noise)


@threadpool_limits.wrap(limits=1)
def write_two_tasks(
    folder: Path,
    *,
    seed: int,
    tokenizer: Path = MINI,
    shape: Shape = DEFAULT,
    each: int = 16,
    height: float = 0.6,
    noise: float = 0.1,
) -> Planted:
    """A model that does greater-than on prompts with " lasted" and on prompts with " started".

    Roles: `both` (works in either), `lasted`, `started` (silent in the other), `each` neurons of each. A second
    head tells END which word the prompt holds.
    """
    rng = np.random.default_rng(seed)
    gates = {"both": 0, "lasted": 1, "started": -1}
    plantings = [
        replace(_greater(rng, window, height), role=role, gate=gate)
        for role, gate in gates.items()
        for window in _windows(rng, each)
    ]
    markers = ("lasted", "started")
    return _write(folder, plantings, rng=rng, tokenizer=tokenizer, shape=shape, noise=noise, markers=markers)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _centred(profile: np.ndarray) -> np.ndarray:
    return profile - profile.mean()


def _windows(rng: np.random.Generator, count: int) -> np.ndarray:
    """[count, 2] first and last start year: widths 8..30, narrow towards 00 and 98, covering both."""
    middle = np.linspace(0, 98, count) + rng.uniform(-1, 1, count)
    to_edge = np.minimum(middle, 98 - middle).clip(0)
    width = np.minimum(rng.integers(8, 31, count), 8 + to_edge.astype(int))
    low = np.clip(np.round(middle - width / 2), 0, 99 - width).astype(int)
    return np.stack([low, low + width - 1], axis=1)


def _window_drive(low: int, high: int, peak: float) -> np.ndarray:
    """`peak` inside the window and -4 outside, where GELU is zero; edges about two years wide."""
    inside = _logistic((YEARS - low + 0.5) / 0.7) * _logistic((high + 0.5 - YEARS) / 0.7)
    return (peak + 4) * inside - 4


def _step_up(at: float) -> np.ndarray:
    """Years up to `at` down, later ones up, the nearer the more, as spans are rather short than long."""
    later = np.exp((at - YEARS) / 20)
    return _centred(np.where(at < YEARS, later, -1.0))


def _greater(rng: np.random.Generator, window: np.ndarray, height: float) -> Planting:
    """Tuned to a window, steps up inside it; narrow windows are planted higher, so that all matter."""
    low, high = window.tolist()
    step = low + (high - low) * rng.uniform(0.4, 0.9)
    peak = rng.uniform(6, 10)
    scale = height * math.sqrt(19 / (high - low + 1)) * rng.uniform(0.9, 1.1)
    truth = {"low": low, "high": high, "step": step}
    return Planting("greater", _window_drive(low, high, peak), scale * _step_up(step), peak, truth)


def contrasts() -> np.ndarray:
    """[97, 100]: row YY takes year logits to mean over y > YY minus mean over y <= YY; YY = 02..98."""
    later = MEASURED[:, None] < YEARS
    return np.where(later, 1 / later.sum(1, keepdims=True), -1 / (~later).sum(1, keepdims=True))


def _without(profile: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The part of a profile that no combination of `rows` can see, with the profile's old size."""
    _, size, directions = np.linalg.svd(np.vstack([rows, np.ones(100)]), full_matrices=False)
    seen = directions[size > 1e-9 * size[0]]
    rest = profile - profile @ seen.T @ seen
    return rest * np.linalg.norm(profile) / np.linalg.norm(rest)


def _orthogonal(rng: np.random.Generator, window: np.ndarray, height: float) -> Planting:
    """Tuned and strong, but no contrast at any start year that it fires for, and none on average."""
    low, high = window.tolist()
    near = (low - 6 <= MEASURED) & (high + 6 >= MEASURED)
    blind = np.vstack([contrasts()[near], contrasts().mean(0)])
    readout = height * _without(rng.normal(size=100), blind)
    peak = rng.uniform(6, 10)
    truth = {"low": low, "high": high}
    return Planting("orthogonal", _window_drive(low, high, peak), readout, peak, truth)


def _always_on(rng: np.random.Generator, lean: float) -> Planting:
    """Constant activation; a straight line over the answers has the same contrast for every start year."""
    line = (YEARS - 49.5) / 50
    peak = rng.uniform(6, 10)
    return Planting("always_on", np.full(100, peak), lean * line, peak, {"lean": lean})


def _flat(rng: np.random.Generator, height: float) -> Planting:
    """Large constant activation; a rough readout that no smooth tuning turns into contrast.

    Smooth: the first 50 cosines over the start years. The activation is constant but for the
    LayerNorm's scale, which varies smoothly, by a percent.
    """
    smooth = np.cos(np.pi * np.outer(np.arange(50), np.arange(97) + 0.5) / 97)
    readout = height * _without(rng.normal(size=100), smooth @ contrasts())
    peak = rng.uniform(25, 35)
    return Planting("flat", np.full(100, peak), readout, peak)


# --- kinds, for tuning and clustering --------------------------------------------------------------


def _bump(x: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-(x**2) / (2 * width**2))


def _kinds(moved: float, height: float) -> list[Planting]:
    """One neuron of each kind, moved by this many years, its readout's standard deviation `height` logits.

    Pre-activations reach 10, where GELU changes nothing: the tuning's shape comes out as it is drawn.
    """
    x, wave = YEARS - moved, 2 * np.pi / 10

    def kind(name: str, tuning: np.ndarray, readout: np.ndarray, **truth: float) -> Planting:
        readout = height * _centred(readout) / readout.std()
        return Planting(name, 10 * tuning, readout, 10.0, truth | {"moved": moved})

    return [
        kind("step", _logistic((x - 55) / 2), _logistic(x - 70), threshold=55 + moved),
        kind("bump", _bump(x - 35, 7), _bump(x - 48, 8), centre=35 + moved),
        kind("periodic", (1 + np.cos(wave * (x - 4))) / 2, np.cos(wave * (x - 7)), centre=4 + moved),
        kind("always_on", np.ones(100), x),
        kind("line", (x + 20) / 120, _logistic((x - 90) / 4)),
        kind("ramp", np.clip(60 - x, 0, None) / 60, -_bump(x - 10, 12), threshold=60 + moved),
    ]


# --- how it is planted -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Space:
    """The directions of the residual stream, as orthonormal columns [d_model, …]."""

    constant: np.ndarray
    century: np.ndarray
    is_year: np.ndarray
    code: np.ndarray
    answer: np.ndarray
    spare: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, d_model: int) -> "Space":
        """Random directions orthogonal to each other and to the all-ones vector."""
        ones = np.ones((d_model, 1))
        basis, _ = np.linalg.qr(np.hstack([ones, rng.normal(size=(d_model, d_model - 1))]))
        ends = np.cumsum([1, 1, 1, 1, 2 * HARMONICS, 100])
        _, *parts = np.split(basis, ends, axis=1)
        return cls(*parts)

    def scatter(self, rng: np.random.Generator, rows: int, size: float) -> np.ndarray:
        """[rows, d_model] random vectors of about this norm in the spare directions."""
        width = self.spare.shape[1]
        return rng.normal(size=(rows, width)) @ self.spare.T * (size / math.sqrt(width))


SCALE = math.sqrt(CONSTANT**2 + FEATURE**2 + CODE**2 + 2)
"""The residual's norm at the start year, and at END before the MLPs write; 2 = own vectors."""


def year_code() -> np.ndarray:
    """[100, 64], rows of norm one."""
    turns = 2 * np.pi * np.outer(YEARS, np.arange(1, HARMONICS + 1)) / CYCLE
    return np.hstack([np.cos(turns), np.sin(turns)]) / math.sqrt(HARMONICS)


def _reader(drives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [64, N] and biases [N] on the normalised code that give the pre-activations [100, N].

    Ridge regression: the code could fit more than is asked, at the cost of huge weights.
    """
    code = year_code()
    middle, mean = code.mean(0), drives.mean(0)
    spread = code - middle
    weights = np.linalg.solve(spread.T @ spread + 1e-3 * np.eye(code.shape[1]), spread.T @ (drives - mean))
    return weights, mean - middle @ weights


def _overlap() -> np.ndarray:
    """[100, 100] symmetric mixing of the answer directions: neighbouring years look alike, as in GPT-2."""
    return np.eye(100) + 0.1 * np.exp(-np.abs(YEARS[:, None] - YEARS) / 3)


def _write(
    folder: Path,
    plantings: Sequence[Planting],
    *,
    rng: np.random.Generator,
    tokenizer: Path,
    shape: Shape,
    noise: float,
    markers: tuple[str, str] | None = None,
) -> Planted:
    """Random background, then the head and the neurons on top of it; markers: the two words that gates look for."""
    vocab = json.loads((tokenizer / "vocab.json").read_text(encoding="utf-8"))
    space = Space.draw(rng, shape.d_model)
    tensors = _background(rng, space, shape, noise) | _ends(rng, space, shape, vocab)
    head = (int(rng.integers(shape.first_writing_layer)), int(rng.integers(shape.n_head)))
    _plant_head(tensors, space, shape, head)
    neurons = dict(zip(_places(rng, shape, len(plantings)), plantings, strict=True))
    _plant_neurons(rng, tensors, space, neurons, noise)
    if markers is not None:
        _plant_marker(tensors, space, shape, head, [vocab[f"\u0120{word}"] for word in markers])
        _plant_gates(tensors, space, neurons)
    save_checkpoint(folder, tensors, tokenizer, shape, vocab)
    roles: dict[str, list[NeuronId]] = {}
    for place, planting in neurons.items():
        roles.setdefault(planting.role, []).append(place)
    return Planted(
        folder=folder,
        roles={role: tuple(members) for role, members in roles.items()},
        head=head,
        parameters={place: dict(planting.parameters) for place, planting in neurons.items()},
    )


def _places(rng: np.random.Generator, shape: Shape, count: int) -> list[NeuronId]:
    slots = (shape.n_layer - shape.first_writing_layer) * shape.d_mlp
    chosen = rng.choice(slots, count, replace=False).tolist()
    return [NeuronId(shape.first_writing_layer + c // shape.d_mlp, c % shape.d_mlp) for c in chosen]


def _background(rng: np.random.Generator, space: Space, shape: Shape, noise: float) -> dict[str, np.ndarray]:
    """Every block random: reads everything a little, writes about `noise` to the spare directions."""
    d, tensors = shape.d_model, {}
    for layer in range(shape.n_layer):
        at = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            tensors |= {at + norm + ".weight": np.ones(d), at + norm + ".bias": np.zeros(d)}
        tensors |= {
            at + "attn.c_attn.weight": rng.normal(size=(d, 3 * d)) / math.sqrt(8 * d),
            at + "attn.c_attn.bias": np.zeros(3 * d),
            at + "attn.c_proj.weight": space.scatter(rng, d, noise / math.sqrt(shape.n_head * d)),
            at + "attn.c_proj.bias": space.scatter(rng, 1, noise)[0],
            at + "mlp.c_fc.weight": rng.normal(size=(d, shape.d_mlp)) / math.sqrt(d),
            at + "mlp.c_fc.bias": rng.normal(size=shape.d_mlp) / 10,
            at + "mlp.c_proj.weight": space.scatter(rng, shape.d_mlp, noise / math.sqrt(shape.d_mlp)),
            at + "mlp.c_proj.bias": space.scatter(rng, 1, noise)[0],
        }
    return tensors


def _ends(rng: np.random.Generator, space: Space, shape: Shape, vocab: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Embeddings, final LayerNorm and unembedding."""
    years = [vocab[f"{year:02d}"] for year in YEARS]
    centuries = [vocab[f"\u0120{xx}"] for xx in range(10, 100)]
    gain = np.exp(0.2 * rng.normal(size=shape.d_model))
    tokens = space.scatter(rng, len(vocab), 1.0)
    tokens[years] += CODE * year_code() @ space.code.T + FEATURE * space.is_year.T
    tokens[centuries] += FEATURE * space.century.T
    heads = rng.normal(size=(len(vocab), shape.d_model)) / shape.d_model
    heads -= QUIET / CONSTANT * space.constant.T
    heads[years] = YEAR_GAIN * _overlap() @ space.answer.T + rng.normal(size=(100, 1)) / 16
    return {
        "transformer.wte.weight": tokens,
        "transformer.wpe.weight": space.scatter(rng, shape.n_positions, 1.0) + CONSTANT * space.constant.T,
        "transformer.ln_f.weight": gain,
        "transformer.ln_f.bias": 0.01 * rng.normal(size=shape.d_model),
        "lm_head.weight": heads / gain,
    }


def _plant_head(tensors: dict[str, np.ndarray], space: Space, shape: Shape, head: tuple[int, int]) -> None:
    """Query: this is a century; key: this is a year; value and output: its code, as it was."""
    layer, slot = head
    d, at = shape.d_model, f"transformer.h.{layer}.attn."
    mine = slice(slot * shape.d_head, (slot + 1) * shape.d_head)
    reads = tensors[at + "c_attn.weight"]
    reads[:, :d][:, mine] = 0
    reads[:, d : 2 * d][:, mine] = 0
    reads[:, :d][:, mine.start] = 3 * space.century[:, 0]
    reads[:, d : 2 * d][:, mine.start] = 3 * space.is_year[:, 0]
    reads[:, 2 * d :][:, mine] = space.code
    tensors[at + "c_proj.weight"][mine] = space.code.T * SCALE / math.sqrt(d)


def _plant_marker(
    tensors: dict[str, np.ndarray], space: Space, shape: Shape, taken: tuple[int, int], words: Sequence[int]
) -> None:
    """Another head of the same layer: query, this is a century; key, this is a marker; value, which of the two.

    Key and flag are two of the spare directions, where all else is small.
    """
    key, flag = space.spare[:, -2], space.spare[:, -1]
    for word, sign in zip(words, (1, -1), strict=True):
        tensors["transformer.wte.weight"][word] += FEATURE * key + sign * FLAG * flag
    layer, slot = taken[0], (taken[1] + 1) % shape.n_head
    d, at = shape.d_model, f"transformer.h.{layer}.attn."
    mine = slice(slot * shape.d_head, (slot + 1) * shape.d_head)
    reads = tensors[at + "c_attn.weight"]
    reads[:, np.r_[mine, d + mine.start : d + mine.stop, 2 * d + mine.start : 2 * d + mine.stop]] = 0
    reads[:, mine.start] = 3 * space.century[:, 0]
    reads[:, d + mine.start] = 3 * key
    reads[:, 2 * d + mine.start] = flag
    tensors[at + "c_proj.weight"][mine] = 0
    tensors[at + "c_proj.weight"][mine.start] = flag * SCALE / math.sqrt(d)


def _plant_gates(tensors: dict[str, np.ndarray], space: Space, neurons: Mapping[NeuronId, Planting]) -> None:
    """Where the flag is the neuron's own, its pre-activation stays as it was; else it falls by twice `GATE`."""
    flag = space.spare[:, -1]
    for place, planting in neurons.items():
        at = f"transformer.h.{place.layer}.mlp."
        read = planting.gate * GATE * flag * SCALE / (FLAG * math.sqrt(len(flag)))
        tensors[at + "c_fc.weight"][:, place.index] += read
        tensors[at + "c_fc.bias"][place.index] -= abs(planting.gate) * GATE


def _plant_neurons(
    rng: np.random.Generator,
    tensors: dict[str, np.ndarray],
    space: Space,
    neurons: Mapping[NeuronId, Planting],
    noise: float,
) -> None:
    """Read the code at END, write the answer; a little of the spare is read too, so that nouns differ."""
    d = len(space.code)
    scale = SCALE / math.sqrt(d)
    reads, bias = _reader(np.stack([p.drive for p in neurons.values()], axis=1))
    reads = space.code @ reads * (scale / CODE) + space.scatter(rng, len(neurons), noise).T
    readouts = np.stack([p.readout / p.peak for p in neurons.values()]) * scale
    writes = readouts @ np.linalg.inv(_overlap()) @ space.answer.T / YEAR_GAIN
    writes += rng.normal(size=(len(neurons), 1)) / d
    for place, read, offset, write in zip(neurons, reads.T, bias, writes, strict=True):
        at = f"transformer.h.{place.layer}.mlp."
        tensors[at + "c_fc.weight"][:, place.index] = read
        tensors[at + "c_fc.bias"][place.index] = offset
        tensors[at + "c_proj.weight"][place.index] = write


def save_checkpoint(
    folder: Path, tensors: Mapping[str, np.ndarray], tokenizer: Path, shape: Shape, vocab: Mapping[str, int]
) -> None:
    end_of_text = vocab["<|endoftext|>"]
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": len(vocab),
        "n_positions": shape.n_positions,
        "n_embd": shape.d_model,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "n_inner": shape.d_mlp,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "dtype": "float32",
    }
    folder.mkdir(parents=True, exist_ok=True)
    single = {name: np.ascontiguousarray(t, dtype=np.float32) for name, t in tensors.items()}
    save_file(single, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / name)
