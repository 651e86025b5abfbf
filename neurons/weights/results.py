"""Results of the weights floor: statistics of neurons over the vocabulary, and activations on text. No torch.

All weights are taken as they act, which is what TransformerLens calls its processed weights and what Gurnee et
al. (2024) measured: LayerNorm's gain folded in, the mean over residual dimensions subtracted from what is written
and read, the mean over tokens subtracted from the unembedding.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from neurons.shown import Shown
from neurons.types import InputError, NeuronId, check_choice

if TYPE_CHECKING:
    import pandas as pd

NeuronClass = Literal["prediction", "suppression", "entropy"]

SKEW_ERROR = 1e-4
"""Error of a skew from float32 weights (`docs/method.md`): a smaller skew has no sign."""
HIGH_KURTOSIS = 10.0
"""From here on a neuron writes to few tokens (Gurnee et al. 2024, "Universal neurons", their cut; a normal
distribution has 3)."""
LARGE_NORM, SMALL_VARIANCE = 2.0, -4.0
"""Entropy-like: robust z of log ||w_out|| at least, and of log Var cos at most, within the layer. Stolfo et al.
(2024) describe theirs as of unusually large norm, and took those of least variance; the cuts are ours."""

COLUMNS = (
    "mean", "variance", "skew", "kurtosis", "norm", "norm_z", "variance_z", "logit_variance", "in_out_cosine",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class NeuronStatistics(Shown):
    """Every neuron of the layers, in their order: M neurons, C classes of tokens.

    layer, index [M]: which neuron. mean, variance, skew, kurtosis [M] (non-excess: 3 for a normal distribution): over
    all `n_tokens` tokens v, of cos(w_out, u_v), u_v the unembedding's direction (Gurnee et al. 2024). norm [M]: of
    w_out. logit_variance [M]: over tokens, of the logits written for each unit of a/sigma. explained [M, C]: share of
    the cosine's variance that lies between a class of tokens (`class_sizes` many) and the rest. in_out_cosine [M]: of
    w_in and w_out. norm_z, variance_z [M]: log norm and log variance less their medians in the layer, over 1.4826
    times the median absolute deviation.

    NaN where there is nothing to describe: a neuron that writes nothing, a class without tokens.
    """

    model: str
    model_sha256: str
    n_tokens: int
    layers: tuple[int, ...]
    classes: tuple[str, ...]
    class_sizes: tuple[int, ...]
    layer: Int[np.ndarray, " M"]
    index: Int[np.ndarray, " M"]
    mean: Float[np.ndarray, " M"]
    variance: Float[np.ndarray, " M"]
    skew: Float[np.ndarray, " M"]
    kurtosis: Float[np.ndarray, " M"]
    norm: Float[np.ndarray, " M"]
    norm_z: Float[np.ndarray, " M"]
    variance_z: Float[np.ndarray, " M"]
    logit_variance: Float[np.ndarray, " M"]
    in_out_cosine: Float[np.ndarray, " M"]
    explained: Float[np.ndarray, "M C"]

    def __len__(self) -> int:
        return len(self.norm)

    @cached_property
    def neuron_classes(self) -> tuple[tuple[NeuronClass, ...], ...]:
        """The classes that each neuron is in, none or several; `classes_of` has the thresholds."""
        columns = (self.skew, self.kurtosis, self.norm_z, self.variance_z)
        return tuple(classes_of(*map(float, row)) for row in zip(*columns, strict=True))

    def of_class(self, neuron_class: NeuronClass) -> tuple[NeuronId, ...]:
        """Return the neurons of a class, by layer and index; raises `InputError` for an unknown class."""
        check_choice("neuron_class", neuron_class, NeuronClass)
        found = zip(self.layer, self.index, self.neuron_classes, strict=True)
        return tuple(NeuronId(int(layer), int(index)) for layer, index, classes in found if neuron_class in classes)

    def summary(self) -> dict[str, object]:
        counts = {name: len(self.of_class(name)) for name in get_args(NeuronClass)}
        return {"model": self.model, "neurons": len(self), "tokens": self.n_tokens, **counts}

    def row_of(self, neuron: str | NeuronId) -> int:
        """Return a neuron's row; raises `InputError` if it has none."""
        found = NeuronId.parse(neuron)
        rows = np.flatnonzero((self.layer == found.layer) & (self.index == found.index))
        if not len(rows):
            raise InputError(f"{found} has no statistics here: they are of layers {', '.join(map(str, self.layers))}")
        return int(rows[0])

    def record(self, neuron: str | NeuronId) -> dict[str, Any]:
        """Return one neuron's numbers for JSON: the columns of this table, and its classes."""
        row = self.row_of(neuron)
        numbers = {name: _finite(getattr(self, name)[row]) for name in COLUMNS}
        explained = {name: _finite(share) for name, share in zip(self.classes, self.explained[row], strict=True)}
        return {**numbers, "explained": explained, "neuron_classes": list(self.neuron_classes[row])}

    def to_json(self) -> dict[str, Any]:
        """`{"model", "n_tokens", "classes": {class: tokens}, "neurons": [...]}`, neurons as `record` has them."""
        names = [NeuronId(int(layer), int(index)) for layer, index in zip(self.layer, self.index, strict=True)]
        return {
            "model": self.model,
            "n_tokens": self.n_tokens,
            "classes": dict(zip(self.classes, self.class_sizes, strict=True)),
            "neurons": [{"neuron": str(name), **self.record(name)} for name in names],
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas row for each neuron.

        The share of a class of tokens is the column `explained_<class>`; a class of neurons is true or false.
        """
        import pandas as pd

        names = [str(NeuronId(int(layer), int(index))) for layer, index in zip(self.layer, self.index, strict=True)]
        columns: dict[str, Any] = {"neuron": names, "layer": self.layer, "index": self.index}
        columns |= {name: getattr(self, name) for name in COLUMNS}
        columns |= {f"explained_{name}": self.explained[:, c] for c, name in enumerate(self.classes)}
        columns |= {name: [name in one for one in self.neuron_classes] for name in get_args(NeuronClass)}
        return pd.DataFrame(columns)


def classes_of(skew: float, kurtosis: float, norm_z: float, variance_z: float) -> tuple[NeuronClass, ...]:
    """Classify a neuron by the thresholds above. Classes do not exclude each other: so small a variance may well be
    peaked.
    """
    found: list[NeuronClass] = []
    if kurtosis > HIGH_KURTOSIS and abs(skew) > SKEW_ERROR:
        found.append("prediction" if skew > 0 else "suppression")
    if norm_z >= LARGE_NORM and variance_z <= SMALL_VARIANCE:
        found.append("entropy")
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Some tokens of the vocabulary and what a neuron does to each, the strongest first. K tokens.

    logit: for each unit of a/sigma, less the mean over all tokens (a common shift changes no probability).
    cosine: of w_out with the token's direction in the unembedding.
    """

    ids: Int[np.ndarray, " K"]
    texts: tuple[str, ...]
    logit: Float[np.ndarray, " K"]
    cosine: Float[np.ndarray, " K"]


@dataclass(frozen=True, eq=False)
class VocabularyReadout:
    """One neuron's logits on every token: the most promoted and suppressed tokens for a positive activation, and how
    many tokens (and how many of the 100 years) lie in each of B bins of the cosine.
    """

    neuron: NeuronId
    promoted: Tokens
    suppressed: Tokens
    edges: Float[np.ndarray, " B1"]
    counts: Int[np.ndarray, " B"]
    year_counts: Int[np.ndarray, " B"]


@dataclass(frozen=True, eq=False)
class PromptActivation:
    """One prompt of the cache with a neuron's activation at each of its T tokens.

    row: in the cache. strength: a/sigma at END. texts: the tokens as text, BOS first. activation [T]: after the
    nonlinearity, not divided by sigma.
    """

    row: int
    start_year: int
    strength: float
    texts: tuple[str, ...]
    activation: Float[np.ndarray, " T"]


@dataclass(frozen=True, eq=False)
class ControlCurve:
    """A neuron's a/sigma at END on one type of control prompt. L labels: start years "02".."98", or months, weekdays.

    kind: `year_span` is the reference, on the same nouns and century. about: the type in words.
    example: one of its prompts. mean, low, high [L]: over the nouns.
    """

    kind: str
    about: str
    example: str
    labels: tuple[str, ...]
    mean: Float[np.ndarray, " L"]
    low: Float[np.ndarray, " L"]
    high: Float[np.ndarray, " L"]

    def summary(self) -> dict[str, float]:
        """Mean over labels, least and greatest value over all prompts, in a/sigma."""
        return {"mean": float(self.mean.mean()), "min": float(self.low.min()), "max": float(self.high.max())}


@dataclass(frozen=True, eq=False)
class NeuronText:
    """One neuron's readout on the vocabulary and activations on text. controls: the year span first."""

    neuron: NeuronId
    vocabulary: VocabularyReadout
    strongest: tuple[PromptActivation, ...]
    weakest: tuple[PromptActivation, ...]
    controls: tuple[ControlCurve, ...]


@dataclass(frozen=True, eq=False, repr=False)
class TextStudy(Shown):
    """`NeuronText` of some neurons. left_out: types of control prompt that the tokenizer cannot express, and why."""

    model: str
    neurons: tuple[NeuronText, ...]
    left_out: dict[str, str]

    def summary(self) -> dict[str, object]:
        kinds = [curve.kind for curve in self.neurons[0].controls] if self.neurons else []
        return {"model": self.model, "neurons": len(self.neurons), "prompts": ", ".join(kinds)}

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron and set of control prompts: mean, least and greatest a/sigma at END."""
        import pandas as pd

        return pd.DataFrame(
            {"neuron": str(one.neuron), "prompts": curve.kind, **curve.summary()}
            for one in self.neurons
            for curve in one.controls
        )

    def of(self, neuron: str | NeuronId) -> NeuronText:
        """Return one neuron's text; raises `InputError` if it is not among those studied."""
        found = NeuronId.parse(neuron)
        one = next((text for text in self.neurons if text.neuron == found), None)
        if one is None:
            raise InputError(f"{found} is not in this text study, which has {len(self.neurons)} other neurons")
        return one


@dataclass(frozen=True, eq=False, repr=False)
class Neighbours(Shown):
    """The K neurons most similar to `neuron`, most similar first, by each feature; cosine [K] of each."""

    neuron: NeuronId
    closest: dict[str, tuple[NeuronId, ...]]
    cosine: dict[str, Float[np.ndarray, " K"]]

    def summary(self) -> dict[str, object]:
        closest = {kind: ", ".join(map(str, names[:1])) for kind, names in self.closest.items()}
        return {"neuron": self.neuron, **closest}

    def to_frame(self) -> "pd.DataFrame":
        """A row a neighbour: by which features, which neuron, and its cosine."""
        import pandas as pd

        return pd.DataFrame(
            {"features": kind, "neuron": str(other), "cosine": cosine}
            for kind, names in self.closest.items()
            for other, cosine in zip(names, self.cosine[kind].tolist(), strict=True)
        )

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """For JSON: the neighbours by kind of feature, cosines to four digits."""
        return {
            kind: [
                {"neuron": str(other), "cosine": float(f"{cosine:.4g}")}
                for other, cosine in zip(names, self.cosine[kind].tolist(), strict=True)
            ]
            for kind, names in self.closest.items()
        }


NeighboursOfAll = tuple[Neighbours, ...]


def _finite(value: np.floating[Any]) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
