"""GPT-2 checkpoints whose neurons are exact switches, written by hand.

`planted.py` plants neurons side by side; here they act through each other, and everything is exact. The start
year's token holds a row of switches (drives: on or off for each window of start years), one head copies them to
END, and each planted neuron there is a switch too: pre-activation `PEAK` (on) or -`PEAK` (off, where GELU is zero to
the last bit). Directions are orthonormal and orthogonal to the all-ones vector; every position holds so much of
`constant` that what neurons write moves no LayerNorm's scale by more than 1e-8. What does not follow from the
switches is therefore linear, and what each circuit computes can be written down.

All other neurons of layers 8-11 write nothing; layers 0-7 and the other heads are random and write where nobody reads.
The century's token shifts each switch's pre-activation a little, so that centuries differ and nouns do not.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from planted import MINI, YEARS, Planted, Shape, save_checkpoint

from neurons.types import NeuronId

SHAPE = Shape(n_layer=12, d_mlp=16, d_model=64, d_head=16)
CONSTANT, FEATURE, DRIVE, WRITE = 8192.0, 4.0, 4.0, 1.0
"""Amounts in the residual: the constant; `century` and `is_year`; a drive; an answer that is written in full."""
SIGNAL = 1 / 32
"""Amount of a hidden direction when the neuron that writes it is on: a part of an answer, so that redundant
neurons leave no trace in the final LayerNorm's scale."""
PEAK = 10.0
"""Pre-activation, and activation, of a switch that is on."""
SHIFT = 0.5
"""Standard deviation of what a century adds to a pre-activation, cut at two of it."""
ATTEND = 60.0
"""Attention score of END on the start year: all else gets e^-60."""
QUIET, EVERY = 9.0, 5.0
"""Logits that tokens which are no years lie below; logits that `every` adds to all tokens alike."""
UNIT = CONSTANT / math.sqrt(SHAPE.d_model)
"""The LayerNorms' scale: a weight of `UNIT` on a direction reads it as it stands in the residual."""


@dataclass(frozen=True)
class Switch:
    """One neuron to plant. Its pre-activation when nothing is on is `bias`; what is on adds to it.

    drive: window of start years that it is tuned to (a key of the circuit's windows), worth +-PEAK. reads: hidden
    signal -> what it adds at one neuron's worth of it. hidden: the signal that it writes. answer: logits [100] that
    it adds when on, times `amount`; `every`: it adds to all tokens alike instead.
    """

    role: str
    layer: int
    drive: str | None = None
    bias: float = 0.0
    reads: Mapping[str, float] | None = None
    hidden: str | None = None
    answer: np.ndarray | None = None
    amount: float = 1.0
    every: bool = False


@dataclass(frozen=True)
class Room:
    """Directions of the residual stream, orthonormal columns [d_model, ...], by what they hold."""

    fixed: Mapping[str, np.ndarray]
    drives: Mapping[str, np.ndarray]
    hidden: Mapping[str, np.ndarray]
    answers: np.ndarray
    spare: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, drives: Sequence[str], hidden: Sequence[str], answers: int) -> "Room":
        d = SHAPE.d_model
        basis, _ = np.linalg.qr(np.hstack([np.ones((d, 1)), rng.normal(size=(d, d - 1))]))
        ends = np.cumsum([1, 4, len(drives), len(hidden), answers])
        _, fixed, drive, signal, answer, spare = np.split(basis, ends, axis=1)
        names = ("constant", "century", "is_year", "every")
        pairs = (dict(zip(n, part.T, strict=True)) for n, part in ((names, fixed), (drives, drive), (hidden, signal)))
        return cls(*pairs, answer, spare)

    def scatter(self, rng: np.random.Generator, rows: int, size: float = 1.0) -> np.ndarray:
        """[rows, d_model] random vectors of about this norm where nobody reads."""
        width = self.spare.shape[1]
        return rng.normal(size=(rows, width)) @ self.spare.T * (size / math.sqrt(width))


def write_switches(
    folder: Path, rng: np.random.Generator, windows: Mapping[str, np.ndarray], switches: Sequence[Switch]
) -> Planted:
    """Random background; then the switches, the head that copies them, and the neurons."""
    vocab = json.loads((MINI / "vocab.json").read_text(encoding="utf-8"))
    signals = sorted({s.hidden for s in switches if s.hidden})
    room = Room.draw(rng, list(windows), signals, len(_answers(switches)))
    tensors = _background(rng, room) | _ends(rng, room, switches, windows, vocab)
    head = (int(rng.integers(SHAPE.first_writing_layer)), int(rng.integers(SHAPE.n_head)))
    _plant_head(tensors, room, head)
    places = _plant_switches(rng, tensors, room, switches)
    save_checkpoint(folder, tensors, MINI, SHAPE, vocab)
    roles: dict[str, list[NeuronId]] = {}
    for place, switch in zip(places, switches, strict=True):
        roles.setdefault(switch.role, []).append(place)
    return Planted(folder, {role: tuple(members) for role, members in roles.items()}, head, parameters={})


def _answers(switches: Sequence[Switch]) -> dict[int, np.ndarray]:
    """The answers that are written, each once however many neurons write it."""
    return {id(s.answer): s.answer for s in switches if s.answer is not None}


def _background(rng: np.random.Generator, room: Room) -> dict[str, np.ndarray]:
    """Blocks that read everything and write where nobody reads; the MLPs of the planted layers write nothing."""
    d, m, tensors = SHAPE.d_model, SHAPE.d_mlp, {}
    for layer in range(SHAPE.n_layer):
        at = f"transformer.h.{layer}."
        written = room.scatter(rng, m, 1 / math.sqrt(m)) if layer < SHAPE.first_writing_layer else np.zeros((m, d))
        for norm in ("ln_1", "ln_2"):
            tensors |= {at + norm + ".weight": np.ones(d), at + norm + ".bias": np.zeros(d)}
        tensors |= {
            at + "attn.c_attn.weight": rng.normal(size=(d, 3 * d)) / math.sqrt(8 * d),
            at + "attn.c_attn.bias": np.zeros(3 * d),
            at + "attn.c_proj.weight": room.scatter(rng, d, 1 / math.sqrt(d)),
            at + "attn.c_proj.bias": room.scatter(rng, 1)[0],
            at + "mlp.c_fc.weight": rng.normal(size=(d, m)) / math.sqrt(d),
            at + "mlp.c_fc.bias": rng.normal(size=m) / 10,
            at + "mlp.c_proj.weight": written,
            at + "mlp.c_proj.bias": room.scatter(rng, 1)[0],
        }
    return tensors


def _ends(
    rng: np.random.Generator,
    room: Room,
    switches: Sequence[Switch],
    windows: Mapping[str, np.ndarray],
    vocab: Mapping[str, int],
) -> dict[str, np.ndarray]:
    """Embeddings with the switches, and an unembedding that reads each neuron's own answer."""
    years, centuries = [vocab[f"{y:02d}"] for y in YEARS], [vocab[f"\u0120{xx}"] for xx in range(10, 100)]
    drives = np.stack(list(room.drives.values()))
    on = np.stack([np.where(window, 1.0, -1.0) for window in windows.values()], axis=1)
    shift = SHIFT / PEAK * rng.normal(size=(len(centuries), len(drives))).clip(-2, 2)
    tokens = room.scatter(rng, len(vocab))
    tokens[years] += FEATURE * room.fixed["is_year"] + DRIVE * on @ drives
    tokens[centuries] += FEATURE * room.fixed["century"] + DRIVE * shift @ drives
    gain = np.exp(0.2 * rng.normal(size=SHAPE.d_model))
    heads = np.tile(EVERY * UNIT / WRITE * room.fixed["every"], (len(vocab), 1))
    heads -= QUIET / math.sqrt(SHAPE.d_model) * room.fixed["constant"]
    answers = np.stack(list(_answers(switches).values()))
    heads[years] += answers.T @ room.answers.T * UNIT / WRITE
    heads[years] += QUIET / math.sqrt(SHAPE.d_model) * room.fixed["constant"]
    return {
        "transformer.wte.weight": tokens,
        "transformer.wpe.weight": room.scatter(rng, SHAPE.n_positions) + CONSTANT * room.fixed["constant"],
        "transformer.ln_f.weight": gain,
        "transformer.ln_f.bias": 0.1 / UNIT * rng.normal(size=SHAPE.d_model),
        "lm_head.weight": heads / gain,
    }


def _plant_head(tensors: dict[str, np.ndarray], room: Room, head: tuple[int, int]) -> None:
    """Query: this is a century; key: this is a year; value and output: the switches, as they were."""
    layer, slot = head
    d, at = SHAPE.d_model, f"transformer.h.{layer}.attn."
    start, stop = slot * SHAPE.d_head, (slot + 1) * SHAPE.d_head
    reads, writes = tensors[at + "c_attn.weight"], tensors[at + "c_proj.weight"]
    reads[:, np.r_[start:stop, d + start : d + stop, 2 * d + start : 2 * d + stop]] = 0
    writes[start:stop] = 0
    look = math.sqrt(ATTEND * math.sqrt(SHAPE.d_head)) * UNIT / FEATURE
    reads[:, start] = look * room.fixed["century"]
    reads[:, d + start] = look * room.fixed["is_year"]
    for at_value, drive in enumerate(room.drives.values()):
        reads[:, 2 * d + start + at_value] = drive
        writes[start + at_value] = UNIT * drive


def _plant_switches(
    rng: np.random.Generator, tensors: dict[str, np.ndarray], room: Room, switches: Sequence[Switch]
) -> list[NeuronId]:
    """Each at a free place of its layer; a neuron with an answer writes its own direction of the unembedding."""
    free = {layer: rng.permutation(SHAPE.d_mlp).tolist() for layer in range(SHAPE.n_layer)}
    answers = dict(zip(_answers(switches), room.answers.T, strict=True))
    places = [NeuronId(switch.layer, free[switch.layer].pop()) for switch in switches]
    for place, switch in zip(places, switches, strict=True):
        at = f"transformer.h.{place.layer}.mlp."
        read, write = np.zeros(SHAPE.d_model), np.zeros(SHAPE.d_model)
        if switch.drive is not None:
            read += PEAK / DRIVE * UNIT * room.drives[switch.drive]
        for signal, worth in (switch.reads or {}).items():
            read += worth / SIGNAL * UNIT * room.hidden[signal]
        if switch.hidden is not None:
            write += SIGNAL / PEAK * room.hidden[switch.hidden]
        if switch.answer is not None:
            write += switch.amount * WRITE / PEAK * answers[id(switch.answer)]
        if switch.every:
            write += WRITE / PEAK * room.fixed["every"]
        tensors[at + "c_fc.weight"][:, place.index] = read
        tensors[at + "c_fc.bias"][place.index] = switch.bias
        tensors[at + "c_proj.weight"][place.index] = write
    return places
