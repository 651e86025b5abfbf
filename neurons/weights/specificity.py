"""Specificity of neurons on a text of the user's: do they fire on years, or on much else?

1. Years of a neuron: END of the measured prompts at the start years where it is active (`active_range` of its mean
   activation by start year), from the cache; and, in the text, the tokens that are part of a year.
2. The text runs once, streamed. For each neuron: the area under the ROC curve of its prompts against all tokens of the
   text that are no years, and among its `STRONGEST` activations on prompts and text the share that falls on years.
3. The text runs a second time with a set of neurons mean-ablated at every position: W_out of each is zero, and its mean
   write over the text is in the bias. What the loss of the next token rises by is what the set does for other text.

A longer text can only find more that a neuron fires on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurons.cache.format import Cache
from neurons.decomposition.profiles import active_range
from neurons.model.forward import layer_passes, logsumexp
from neurons.model.model import Model, normalise
from neurons.rounding import descending, sign_of_largest
from neurons.task.behaviour import by_start_year
from neurons.types import CacheError, NeuronId, Progress
from neurons.weights.files import digest_of
from neurons.weights.reading import TextFile
from neurons.weights.specificity_results import Losses, NeuronSpecificity, Snippet, Specificity
from neurons.weights.vocabulary import check_neurons

STRONGEST, SNIPPETS, AROUND = 100, 4, 12
"""Activations judged; places shown, and tokens on either side of each."""


def specificity(
    model: Model,
    cache: Cache,
    path: Path,
    neurons: Sequence[str | NeuronId],
    ablated: Sequence[str | NeuronId],
    *,
    start_years: Sequence[int],
    progress: Progress | None = None,
) -> Specificity:
    """Compare neurons on years and on a text, and measure what the text loses with the `ablated` mean-ablated.

    start_years: those measured. progress: batches of windows done, of both runs. Raises `InputError` for a neuron
    outside the model, or a file that cannot be read, is empty, too short or not UTF-8; `CacheError` for another model's
    cache.
    """
    if model.fingerprint != cache.model_sha256:
        raise CacheError(
            f"cache {cache.path} was made with other weights than {model.name}'s: give the model it was made with"
        )
    found, held, file = check_neurons(model, neurons), check_neurons(model, ablated), TextFile(path, model)
    batches = sum(1 for _ in file.windows())
    heard = _Heard([_watch(cache, neuron, start_years) for neuron in found], dict.fromkeys(held, 0.0))
    for done, (tokens, is_year) in enumerate(_with_years(file)):
        heard.hear(file, tokens, is_year)
        if progress:
            progress(done + 1, 2 * batches)
    means = {neuron: total / heard.tokens for neuron, total in heard.totals.items()}
    without, other = _mean_ablated(model, means), _Loss()
    for done, (tokens, is_year) in enumerate(_with_years(file)):
        other.add(_run(without, tokens, ()).loss, is_year[:, 1:])
        if progress:
            progress(batches + done + 1, 2 * batches)
    text, years = heard.loss.mean(False), heard.loss.mean(True)
    losses = Losses(len(held), text or 0.0, other.mean(False) or 0.0, years, other.mean(True))
    judged = tuple(one.judged(file) for one in heard.watched)
    return Specificity(cache.model, path.name, digest_of(path), heard.tokens, heard.years, judged, losses)


@dataclass(eq=False)
class _Heard:
    """What the first run of the text gives. totals: sums of activations of the neurons to be ablated."""

    watched: "list[_Watched]"
    totals: dict[NeuronId, float]
    loss: "_Loss" = field(default_factory=lambda: _Loss())
    tokens: int = 0
    years: int = 0

    def hear(self, file: TextFile, tokens: Int[np.ndarray, "B T"], is_year: Bool[np.ndarray, "B T"]) -> None:
        run = _run(file.model, tokens, (*(one.neuron for one in self.watched), *self.totals))
        real = _real(file, tokens)
        for one in self.watched:
            one.see(tokens, run.activation[one.neuron], is_year, real)
        for neuron in self.totals:
            self.totals[neuron] += float(run.activation[neuron][real].sum(dtype=float))
        self.loss.add(run.loss, is_year[:, 1:])
        self.tokens += int(real.sum())
        self.years += int((is_year & real).sum())


def _with_years(file: TextFile) -> Iterator[tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]]:
    for tokens in file.windows():
        yield tokens, file.on_years(tokens)


def _real(file: TextFile, tokens: Int[np.ndarray, "B T"]) -> Bool[np.ndarray, "B T"]:
    """Which positions are of the text: all but the token in front of each window."""
    real = np.ones(tokens.shape, bool)
    real[:, 0] = file.model.tokenizer.bos_token_id is None
    return real


# --- one neuron on the text -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Place:
    strength: float
    on_year: bool
    tokens: Int[np.ndarray, " T"]
    activation: Float[np.ndarray, " T"]


@dataclass(eq=False)
class _Watched:
    """A neuron while the text goes by. prompts: its strengths at its own years, ascending."""

    neuron: NeuronId
    sign: int
    prompts: Float[np.ndarray, " m"]
    above: float = 0.0
    seen: int = 0
    places: list[_Place] = field(default_factory=list)

    def see(
        self,
        tokens: Int[np.ndarray, "B T"],
        activation: Float[np.ndarray, "B T"],
        is_year: Bool[np.ndarray, "B T"],
        real: Bool[np.ndarray, "B T"],
    ) -> None:
        strength = self.sign * activation.astype(float)
        other = strength[real & ~is_year]
        below = [np.searchsorted(self.prompts, other, side).sum() for side in ("left", "right")]
        self.above += len(other) * len(self.prompts) - sum(map(float, below)) / 2
        self.seen += len(other)
        least = self.places[-1].strength if len(self.places) == STRONGEST else -np.inf
        rows, columns = np.nonzero(real & (strength > least))
        for at in descending(strength[rows, columns])[:STRONGEST].tolist():
            row, column = int(rows[at]), int(columns[at])
            around = slice(max(0, column - AROUND), column + AROUND + 1)
            self.places.append(
                _Place(float(strength[row, column]), bool(is_year[row, column]), tokens[row, around],
                       activation[row, around])
            )  # fmt: skip
        self.places = sorted(self.places, key=lambda place: -place.strength)[:STRONGEST]

    def judged(self, file: TextFile) -> NeuronSpecificity:
        strengths = np.concatenate([self.prompts, [place.strength for place in self.places]])
        on_year = np.concatenate([np.ones(len(self.prompts)), [place.on_year for place in self.places]])
        strongest = descending(strengths)[: min(STRONGEST, len(self.prompts))]
        pairs = self.seen * len(self.prompts)
        return NeuronSpecificity(
            neuron=self.neuron,
            sign=self.sign,
            prompts=len(self.prompts),
            on_years=float(on_year[strongest].mean()),
            auc=self.above / pairs if pairs else 0.5,
            snippets=tuple(
                Snippet(tuple(file.texts[token] for token in one.tokens.tolist()), one.activation, one.on_year)
                for one in self.places[:SNIPPETS]
            ),
        )


def _watch(cache: Cache, neuron: NeuronId, start_years: Sequence[int]) -> _Watched:
    """The neuron with its strengths at END of the prompts of its own years."""
    cache.check_neuron(neuron)
    post = cache.post(neuron.layer, slice(neuron.index, neuron.index + 1))[:, 0].astype(float)
    curve = by_start_year(post, cache.start_year.astype(int))[list(start_years)]
    sign, (first, last) = int(sign_of_largest(curve)), active_range(curve)
    own = np.isin(cache.start_year, start_years[first : last + 1])
    return _Watched(neuron, sign, np.sort(sign * post[own]))


# --- the model on the text ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Run:
    """A batch of windows. activation: of the neurons asked for [B, T]; loss [B, T-1]: of each next token, in nats."""

    activation: dict[NeuronId, Float[np.ndarray, "B T"]]
    loss: Float[np.ndarray, "B t"]


@torch.inference_mode()
def _run(model: Model, tokens: Int[np.ndarray, "B T"], neurons: Sequence[NeuronId]) -> _Run:
    activation = {}
    for layer, one in enumerate(layer_passes(model, tokens, shared=0)):
        for neuron in neurons:
            if neuron.layer == layer:
                activation[neuron] = one.post[..., neuron.index].cpu().numpy()
    following = torch.as_tensor(tokens[:, 1:], dtype=torch.long, device=model.device)
    return _Run(activation, _losses(model, one.after[:, :-1], following).cpu().numpy())


def _losses(model: Model, residual: Float[Tensor, "B t d"], following: Int[Tensor, "B t"]) -> Float[Tensor, "B t"]:
    normed = normalise(residual, model.ln_final, model.config.layer_norm_eps)
    return logsumexp(model, residual) - (normed * model.W_U[following]).sum(-1)


def _mean_ablated(model: Model, means: dict[NeuronId, float]) -> Model:
    """The model with these neurons at their means at every position."""
    blocks = list(model.blocks)
    for layer in {neuron.layer for neuron in means}:
        W_out, b_out = blocks[layer].W_out.clone(), blocks[layer].b_out.clone()
        for neuron, value in means.items():
            if neuron.layer == layer:
                b_out += value * W_out[neuron.index]
                W_out[neuron.index] = 0
        blocks[layer] = replace(blocks[layer], W_out=W_out, b_out=b_out)
    return replace(model, blocks=tuple(blocks))


@dataclass(eq=False)
class _Loss:
    """Sums of losses, of tokens that are years and of all others."""

    total: Float[np.ndarray, "2"] = field(default_factory=lambda: np.zeros(2))
    count: Int[np.ndarray, "2"] = field(default_factory=lambda: np.zeros(2, int))

    def add(self, loss: Float[np.ndarray, "B t"], is_year: Bool[np.ndarray, "B t"]) -> None:
        for place, chosen in enumerate((~is_year, is_year)):
            self.total[place] += loss[chosen].sum(dtype=float)
            self.count[place] += chosen.sum()

    def mean(self, of_years: bool) -> float | None:
        count = int(self.count[int(of_years)])
        return float(self.total[int(of_years)]) / count if count else None
