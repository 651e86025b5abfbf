"""Neuron statistics over the whole vocabulary, from weights alone: moments, norms and classes (`classes_of`).

1. `Unembedding`: every token's direction u_v as the residual stream meets it, made a block of tokens at a time.
   Gain folded, centred over dimensions, mean over tokens subtracted: TransformerLens's processed weights, which
   are what Gurnee et al. (2024) measured. w_out is centred, w_in has its LayerNorm's gain and is centred.
2. With unit vectors u and w, the cosine's mean is w . E u and its variance w . Cov(u) w; a class of tokens
   explains n1 n2 / n^2 (w . (E1 u - E2 u))^2 of it. Logits likewise, with u not scaled to unit length. So these
   need d x d moments of the vocabulary alone, taken in float64, and are exact.
3. Skew and kurtosis need every cosine: a matrix product for a block of tokens and a layer, standardised by the exact
   mean and variance, whose third and fourth powers are summed, each block in the weights' precision and the
   blocks in float64.

With float32 weights everything equals a float64 computation over all tokens to 1e-6 of its size or of 1 (variances of
their size), skew and kurtosis to 1e-4; with float64 weights to 1e-10. Memory: one block of directions and its product
with one layer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurons.model.model import Model
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.rounding import MARGIN
from neurons.task.prompts import year_tokens
from neurons.types import NeuronId, Progress, check_is, check_progress
from neurons.weights.results import NeuronStatistics

TOKENS = 1024
"""Tokens in one block: their product with a layer of GPT-2 small is 12 MB."""
NOTHING = 1e-14
"""A variance of cosines under this is float32 rounding of the weights, (6e-8)^2 and a little: nothing is written."""


@dataclass(frozen=True, eq=False)
class Unembedding:
    """The tokens' directions u_v, a block at a time. mean [d]: over tokens, already subtracted from them."""

    model: Model
    mean: Float[Tensor, " d"]

    def __len__(self) -> int:
        return len(self.model.W_U)

    def directions(self, tokens: slice | Sequence[int]) -> Float[Tensor, "B d"]:
        """u_v of some tokens: a residual x adds x . u_v / sigma to their logits, less what all tokens get."""
        return centred(self.model.W_U[tokens] * self.model.ln_final.gain) - self.mean

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "B d"], Float[Tensor, "B d"]]]:
        """Yield consecutive tokens, their directions, and these scaled to unit length (a zero one stays zero)."""
        for start in range(0, len(self), TOKENS):
            part = slice(start, min(start + TOKENS, len(self)))
            u = self.directions(part)
            yield part, u, unit_rows(u)


def unembedding(model: Model) -> Unembedding:
    """Return the tokens' directions, with their mean over the vocabulary computed."""
    total = sum(part.sum(0, dtype=torch.float64) for part in model.W_U.split(TOKENS))
    mean = centred(total / len(model.W_U) * model.ln_final.gain.double())
    return Unembedding(model, mean.to(model.W_U.dtype))


@torch.inference_mode()
def neuron_statistics(model: Model, layers: Iterable[int], *, progress: Progress | None = None) -> NeuronStatistics:
    """Measure each neuron's cosine with the unembedding over all tokens, its norms, and the share of classes of tokens.

    `NeuronStatistics` defines each number. `progress` counts blocks of tokens, the exact moments first.

    Raises `InputError` for a layer outside the model.
    """
    check_is("model", model, Model, "what load_model returns")
    check_progress(progress)
    layers = model.config.check_layers(layers)
    tokens = unembedding(model)
    classes = token_classes(model.tokenizer, len(tokens))
    steps = _Steps(progress, 2 * -(-len(tokens) // TOKENS))
    moments = _moments(tokens, classes, steps)
    writes = {layer: centred(model.blocks[layer].W_out) for layer in layers}
    exact = {layer: _exact(moments, writes[layer].double()) for layer in layers}
    shapes = _shapes(tokens, moments, writes, {layer: exact[layer]["variance"] for layer in layers}, steps)
    columns = {
        layer: exact[layer] | shapes[layer] | {"in_out_cosine": _in_out_cosine(model, layer)} for layer in layers
    }
    arrays = {layer: {name: column.cpu().numpy() for name, column in columns[layer].items()} for layer in layers}
    for one in arrays.values():
        one["norm_z"] = _robust_z(one["norm"])
        one["variance_z"] = _robust_z(one["variance"])
    return NeuronStatistics(
        model=model.name,
        model_sha256=model.fingerprint,
        n_tokens=len(tokens),
        layers=layers,
        classes=tuple(classes),
        class_sizes=tuple(int(member.sum()) for member in classes.values()),
        layer=np.repeat(layers, model.config.d_mlp),
        index=np.tile(np.arange(model.config.d_mlp), len(layers)),
        **{name: np.concatenate([arrays[layer][name] for layer in layers]) for name in arrays[layers[0]]},
    )


def written_by(model: Model, neuron: NeuronId) -> Float[Tensor, " d"]:
    """w_out as it acts: centred."""
    return centred(model.blocks[neuron.layer].W_out[neuron.index])


def token_classes(tokenizer: Gpt2Tokenizer, n_tokens: int) -> dict[str, Bool[np.ndarray, " V"]]:
    """Return which tokens are in each class; ids beyond the tokenizer's are in none.

    years: the 100 bare two-digit tokens. leading_space: the text begins with a space. capital: its first
    character after spaces is upper case. digits: digits alone, after spaces.
    """
    known = min(n_tokens, tokenizer.vocab_size)
    texts = [tokenizer.decode(token) for token in range(known)] + [""] * (n_tokens - known)
    words = [text.lstrip(" ") for text in texts]
    return {
        "years": np.isin(np.arange(n_tokens), year_tokens(tokenizer)),
        "leading_space": np.array([text.startswith(" ") for text in texts]),
        "capital": np.array([word[:1].isupper() for word in words]),
        "digits": np.array([word.isascii() and word.isdigit() for word in words]),
    }


@dataclass(frozen=True, eq=False)
class _Moments:
    """Over all tokens, in float64: mean and covariance of unit directions, covariance of whole ones, and for each
    class the number of its tokens and their mean unit direction."""

    n_tokens: int
    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]
    logit_covariance: Float[Tensor, "d d"]
    class_sizes: Float[Tensor, " C"]
    class_means: Float[Tensor, "C d"]


def _moments(tokens: Unembedding, classes: Mapping[str, Bool[np.ndarray, " V"]], steps: "_Steps") -> _Moments:
    d, n, device = tokens.mean.shape[0], len(tokens), tokens.mean.device
    member = torch.as_tensor(np.stack(list(classes.values())), device=device).double()
    total, whole = (torch.zeros(d, dtype=torch.float64, device=device) for _ in range(2))
    products, whole_products = (torch.zeros(d, d, dtype=torch.float64, device=device) for _ in range(2))
    class_totals = torch.zeros(len(classes), d, dtype=torch.float64, device=device)
    for part, u, unit in tokens.blocks():
        u, unit = u.double(), unit.double()
        total += unit.sum(0)
        whole += u.sum(0)
        products.addmm_(unit.T, unit)
        whole_products.addmm_(u.T, u)
        class_totals += member[:, part] @ unit
        steps.next()
    mean, whole_mean, sizes = total / n, whole / n, member.sum(1)
    return _Moments(
        n_tokens=n,
        mean=mean,
        covariance=products / n - torch.outer(mean, mean),
        logit_covariance=whole_products / n - torch.outer(whole_mean, whole_mean),
        class_sizes=sizes,
        class_means=class_totals / sizes[:, None],
    )


def _exact(moments: _Moments, write: Float[Tensor, "N d"]) -> dict[str, Tensor]:
    """What follows from the d x d moments, in float64."""
    unit, n = unit_rows(write), moments.n_tokens
    variance = _quadratic(unit, moments.covariance)
    written = variance >= NOTHING
    mean, sizes = unit @ moments.mean, moments.class_sizes
    class_mean = unit @ moments.class_means.T
    # the rest's mean follows from the whole's: n1 n2 / n^2 (m1 - m2)^2 = n1 / n2 (m1 - m)^2
    between = sizes / (n - sizes) * (class_mean - mean[:, None]) ** 2
    share = torch.where(written[:, None] & (sizes < n), between / variance[:, None], torch.nan)
    return {
        "mean": mean,
        "variance": torch.where(written, variance, 0.0),
        "norm": write.norm(dim=1),
        "logit_variance": _quadratic(write, moments.logit_covariance),
        "explained": share,
    }


def _shapes(
    tokens: Unembedding,
    moments: _Moments,
    writes: Mapping[int, Float[Tensor, "N d"]],
    variances: Mapping[int, Float[Tensor, " N"]],
    steps: "_Steps",
) -> dict[int, dict[str, Tensor]]:
    """Skew and kurtosis of each neuron's cosines: mean third and fourth powers of the standardised ones."""
    dtype = tokens.mean.dtype
    scaled = {
        layer: (unit_rows(write.double()) / variances[layer].sqrt()[:, None]).to(dtype).T.contiguous()
        for layer, write in writes.items()
    }
    sums = {
        layer: torch.zeros(2, len(write), dtype=torch.float64, device=write.device) for layer, write in writes.items()
    }
    middle = moments.mean.to(dtype)
    for _, _, unit in tokens.blocks():
        spread = unit - middle
        for layer, columns in scaled.items():
            sums[layer] += _third_and_fourth(spread @ columns)
        steps.next()
    return {
        layer: {name: torch.where(variances[layer] > 0, one / len(tokens), torch.nan)
                for name, one in zip(("skew", "kurtosis"), both, strict=True)}
        for layer, both in sums.items()
    }  # fmt: skip


def _third_and_fourth(z: Float[Tensor, "B N"]) -> Float[Tensor, "2 N"]:
    """Sums of powers over a block; works in place, because the block is large."""
    square = z * z
    third = z.mul_(square).sum(0)
    return torch.stack([third, square.mul_(square).sum(0)]).double()


def _in_out_cosine(model: Model, layer: int) -> Float[Tensor, " N"]:
    """Return the cosine of input and output weights: positive if the neuron amplifies the direction that it reads."""
    block = model.blocks[layer]
    reads = centred((block.W_in * block.ln_2.gain[:, None]).T.double())
    return (unit_rows(reads) * unit_rows(centred(block.W_out.double()))).sum(1)


def _robust_z(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Log values less their median, over 1.4826 times the median absolute deviation (a normal's standard deviation);
    0 where all are alike."""
    logs = np.log(np.maximum(values, NOTHING))
    away = logs - np.median(logs)
    spread = 1.4826 * np.median(np.abs(away))
    return away / spread if spread > MARGIN * np.abs(logs).max(initial=1.0) else np.zeros_like(away)


def _quadratic(x: Float[Tensor, "N d"], matrix: Float[Tensor, "d d"]) -> Float[Tensor, " N"]:
    return ((x @ matrix) * x).sum(1)


def centred(x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Less the mean over residual dimensions, which the next LayerNorm takes out."""
    return x - x.mean(-1, keepdim=True)


def unit_rows(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scaled to unit length; a zero row stays zero."""
    return torch.nn.functional.normalize(x, dim=-1)


@dataclass
class _Steps:
    """Counts a long computation's steps for its caller."""

    progress: Progress | None
    total: int
    done: int = 0

    def next(self) -> None:
        self.done += 1
        if self.progress:
            self.progress(self.done, self.total)
