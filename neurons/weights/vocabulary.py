"""Logits of single neurons on every token of the vocabulary: the most promoted, the most suppressed, a histogram.

1. A neuron's write through the unembedding's directions (`statistics.Unembedding`) is a logit for each token and
   unit of a/sigma; divided by both lengths it is the cosine whose moments the statistics describe.
2. The K largest and smallest logits are kept with their tokens' texts, and a histogram of all cosines.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from neurons.model.model import Model
from neurons.rounding import ascending, descending
from neurons.task.prompts import year_tokens
from neurons.types import InputError, NeuronId
from neurons.weights.results import Tokens, VocabularyReadout
from neurons.weights.statistics import Unembedding, unembedding, unit_rows, written_by

TOP, BINS = 20, 60
NEURONS = 128
"""Neurons whose values on all tokens are in memory at once: 50 MB in GPT-2."""


@torch.inference_mode()
def vocabulary_readouts(
    model: Model, neurons: Sequence[str | NeuronId], *, top: int = TOP, bins: int = BINS
) -> tuple[VocabularyReadout, ...]:
    """Find the tokens that each neuron promotes and suppresses. top: tokens at each end; bins: of the histogram.

    Raises `InputError` for a neuron outside the model, or for more tokens than there are.
    """
    found = check_neurons(model, neurons)
    if not 1 <= top <= len(model.W_U) or bins < 1:
        raise InputError(f"{top} tokens and {bins} bins: choose 1-{len(model.W_U)} tokens and at least one bin")
    tokens = unembedding(model)
    is_year = np.isin(np.arange(len(tokens)), year_tokens(model.tokenizer))
    readouts: list[VocabularyReadout] = []
    for start in range(0, len(found), NEURONS):
        some = found[start : start + NEURONS]
        logits, cosines = on_every_token(tokens, some)
        readouts += [
            _readout(model, *one, is_year, top, bins) for one in zip(some, logits, cosines, strict=True)
        ]  # fmt: skip
    return tuple(readouts)


def on_every_token(
    tokens: Unembedding, neurons: Sequence[NeuronId]
) -> tuple[Float[np.ndarray, "n V"], Float[np.ndarray, "n V"]]:
    """Logits for each unit of a/sigma, and cosines."""
    write = torch.stack([written_by(tokens.model, neuron) for neuron in neurons])
    logits, cosines = (torch.empty(len(neurons), len(tokens), dtype=write.dtype) for _ in range(2))
    for part, u, unit in tokens.blocks():
        logits[:, part] = (write @ u.T).cpu()
        cosines[:, part] = (unit_rows(write) @ unit.T).cpu()
    return logits.numpy(), cosines.numpy()


def check_neurons(model: Model, neurons: Sequence[str | NeuronId]) -> tuple[NeuronId, ...]:
    """Return the neurons; raises `InputError` if one is outside the model, or if none is named."""
    if not neurons:
        raise InputError("no neurons named: give some, like L9N12")
    every = tuple(range(model.config.n_layers))
    return tuple(model.config.check_neuron(NeuronId.parse(neuron), every) for neuron in neurons)


def _readout(
    model: Model,
    neuron: NeuronId,
    logit: Float[np.ndarray, " V"],
    cosine: Float[np.ndarray, " V"],
    is_year: Bool[np.ndarray, " V"],
    top: int,
    bins: int,
) -> VocabularyReadout:
    def some(ids: np.ndarray) -> Tokens:
        return Tokens(ids, tuple(model.tokenizer.decode(int(token)) for token in ids), logit[ids], cosine[ids])

    counts, edges = np.histogram(cosine, bins=bins)
    year_counts, _ = np.histogram(cosine[is_year], bins=edges)
    return VocabularyReadout(
        neuron, some(descending(logit)[:top]), some(ascending(logit)[:top]), edges, counts, year_counts
    )
