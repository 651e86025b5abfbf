"""Direct logit effects of neurons on the 100 years, kept as factors.

1. A neuron writes a * w_out to the residual stream; a is its activation at END.
2. The final LayerNorm subtracts the mean, divides by sigma and multiplies by its gain; the unembedding
   reads the years off. With sigma frozen at its value in the run this is linear, so the neuron's part
   of the year logits is E = (a / sigma) * R, with R = centred w_out * gain through the unembedding.
3. E is rank one for each prompt: only a / sigma [P, N] and R [N, 100] are ever stored.

The paper's own lens (Hanna et al. 2023) leaves the LayerNorm out: a * (W_out @ W_U). It is offered
under its own name, `plain_logit_lens`; its unit is not the logit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from neurons.cache.format import Cache, format_layers
from neurons.decomposition.cells import CACHE, Activations, Lens
from neurons.intervals import Cells, Interval, cell_means, interval, year_means
from neurons.labelled import labelled
from neurons.shown import Shown
from neurons.task.years import N_YEARS, check_measured, contrast_weights, measured_years, spans
from neurons.types import InputError, NeuronId, check_is, check_whole

if TYPE_CHECKING:
    import xarray as xr

PART_NUMBERS = 1 << 21
"""Cells, by century, start year and neuron, that an analysis has in memory in float64 at once: 16 MB."""


@dataclass(frozen=True, eq=False, repr=False)
class LogitEffects(Shown):
    """Every neuron's effect on the year logits, from a cache file. Y measured start years, N neurons a layer.

    lens "exact": effects in logits, through the final LayerNorm with its scale frozen. lens "plain": the
    paper's lens without LayerNorm, in units of its own.
    """

    activations: Activations
    start_years: tuple[int, ...]

    def __post_init__(self) -> None:
        check_is("activations", self.activations, Activations, "Activations(cache)")
        check_is("start_years", self.start_years, tuple, "start years in a tuple")
        check_measured(self.start_years)

    @property
    def cache(self) -> Cache:
        return self.activations.cache

    @property
    def lens(self) -> Lens:
        return self.activations.lens

    @property
    def layers(self) -> tuple[int, ...]:
        """The cached layers."""
        return self.cache.layers

    def summary(self) -> dict[str, object]:
        return {
            "model": self.cache.model,
            "neurons": len(self.layers) * self.cache.d_mlp,
            "layers": format_layers(self.layers),
            "start years": spans(self.start_years),
            "lens": self.lens,
        }

    def activation(
        self, layer: int, neurons: slice = slice(None), rows: slice = slice(None)
    ) -> Float[np.ndarray, "P N"]:
        """a / sigma for every prompt of the cache, or those of `rows` (a alone for the plain lens)."""
        post = self.cache.post(layer, neurons, rows)
        return post if self.lens == "plain" else post / self.cache.scale[rows, None]

    def readout(self, layer: int, neurons: slice = slice(None)) -> Float[np.ndarray, "N 100"]:
        """Logits of the years for each unit of `activation`."""
        return self.cache.readout(layer, neurons, plain=self.lens == "plain")

    @cached_property
    def counts(self) -> Int[np.ndarray, "C Y"]:
        """How many prompts each century has at each measured start year; centuries without any are left out."""
        counts = self.activations.counts[:, self._columns(self.start_years)]
        return counts[counts.any(1)]

    def cells(self, layer: int, neurons: slice = slice(None)) -> Cells:
        """Mean `activation` over the prompts of each century and measured start year."""
        return self._cells(layer, neurons, self.start_years)

    def tuning(self, layer: int, neurons: slice = slice(None)) -> Float[np.ndarray, "Y N"]:
        """Mean `activation` at each measured start year, at the average century (`intervals.year_means`)."""
        return year_means(self.cells(layer, neurons))

    def tuning_interval(self, neuron: str | NeuronId) -> Interval:
        """The tuning curve [Y] of one neuron with its 95 % interval over centuries; NaN with one century."""
        return interval(self.cells(*self._slice(neuron)), lambda mean: mean[:, 0])

    def _cells(self, layer: int, neurons: slice, years: tuple[int, ...]) -> Cells:
        columns = self._columns(years)
        counts = self.activations.counts[:, columns]
        total = self.activations.layer(layer, neurons).total[:, columns]
        has_any = counts.any(1)
        counts = counts[has_any]
        return Cells(total[has_any] / np.maximum(counts, 1)[:, :, None], counts > 0)

    def _columns(self, years: tuple[int, ...]) -> Int[np.ndarray, " Y"]:
        return np.searchsorted(self.activations.start_years, years)

    def map(self, neuron: str | NeuronId) -> "xr.DataArray":
        """Mean effect of one neuron by start year and year, labelled: `map("L9N43").sel(start_year=32, year=45)`.

        In logits. Raises `InputError` for a neuron outside the cache.
        """
        return self._labelled(self.map_array(neuron))

    def map_array(self, neuron: str | NeuronId) -> Float[np.ndarray, "Y 100"]:
        """`map` as an array in logits; row 0 is the first measured start year (02 by default), column 0 the year 00."""
        one = self._slice(neuron)
        return self.tuning(*one) * self.readout(*one)

    def of(self, neuron: str | NeuronId, *, start_year: int) -> "xr.DataArray":
        """Mean effect on each year at one start year, measured or not, at the average century, by `year`, in logits.

        Raises `InputError` for a neuron outside the cache or a start year that it does not hold.
        """
        values = self.of_array(neuron, start_year=start_year)
        return labelled(values, unit=self.unit, about={"start_year": start_year}, year=range(N_YEARS))

    def of_array(self, neuron: str | NeuronId, *, start_year: int) -> Float[np.ndarray, "100"]:
        """`of` as a plain array, in logits."""
        one = self._slice(neuron)
        held = self.activations.start_years
        if check_whole("start_year", start_year) not in held:
            raise InputError(
                f"start year {start_year} has no prompt in this cache: it holds {held[0]:02d}-{held[-1]:02d}"
            )
        years = self.start_years if start_year in self.start_years else (*self.start_years, start_year)
        tuning = year_means(self._cells(*one, years))[years.index(start_year), 0]
        return tuning * self.readout(*one)[0]

    def contrast(self, neuron: str | NeuronId) -> Float[np.ndarray, " Y"]:
        """Mean effect over y > YY minus mean effect over y <= YY, for each measured start year, in logits."""
        return (self.map_array(neuron) * contrast_weights(self.start_years)).sum(1)

    def layer_contrast(self, layer: int) -> Float[np.ndarray, "Y N"]:
        """`contrast` of every neuron of the layer, in logits."""
        return self.tuning(layer) * (contrast_weights(self.start_years) @ self.readout(layer).T)

    def layer_map(self, layer: int) -> "xr.DataArray":
        """The sum of the maps of all neurons of the layer, without its output bias, labelled, in logits."""
        return self._labelled(self.layer_map_array(layer))

    def layer_map_array(self, layer: int) -> Float[np.ndarray, "Y 100"]:
        """`layer_map` as a plain array, in logits."""
        return self.tuning(layer) @ self.readout(layer)

    def bias_map(self, layer: int) -> "xr.DataArray":
        """What the layer's output bias adds, labelled, in logits: the same for all neurons, changed by sigma only."""
        return self._labelled(self.bias_map_array(layer))

    def bias_map_array(self, layer: int) -> Float[np.ndarray, "Y 100"]:
        """`bias_map` as a plain array, in logits."""
        if self.lens == "plain":
            raise InputError("the plain lens has no bias term: use the exact effects")
        bias = self.cache.read(f"readout/{self.cache.check_layer(layer)}_bias")
        cache, inverse = self.cache, 1 / self.cache.scale
        cells = cell_means(inverse, century=cache.century, start_year=cache.start_year, years=self.start_years)
        return year_means(cells)[:, None] * bias

    @property
    def unit(self) -> str:
        """Of the effects: the plain lens has none that others have too."""
        return "logits" if self.lens == "exact" else "of the plain lens"

    def _labelled(self, values: Float[np.ndarray, "Y 100"]) -> "xr.DataArray":
        return labelled(values, unit=self.unit, start_year=self.start_years, year=range(N_YEARS))

    def _slice(self, neuron: str | NeuronId) -> tuple[int, slice]:
        found = self.cache.check_neuron(neuron)
        return found.layer, slice(found.index, found.index + 1)


def logit_effects(cache: Cache, *, years: Iterable[int] | None = None) -> LogitEffects:
    """Exact direct logit effects from a cache; no model needed.

    years: the start years measured; default those of 02-98 that the cache has a prompt of.

    Raises `InputError` for a year asked for that cannot be measured or that the cache does not hold.
    """
    check_is("cache", cache, Cache, CACHE)
    return LogitEffects(Activations(cache), measured_years(cache.start_year.tolist(), years))


def plain_logit_lens(cache: Cache, *, years: Iterable[int] | None = None) -> LogitEffects:
    """The paper's lens, activation * (W_out @ W_U) without LayerNorm: another quantity than the effect."""
    check_is("cache", cache, Cache, CACHE)
    return LogitEffects(Activations(cache, "plain"), measured_years(cache.start_year.tolist(), years))


def complete(
    parts: dict[str, Float[np.ndarray, "P _ d"]],
    scale: Float[np.ndarray, " P"],
    readout: Float[np.ndarray, "d 100"],
    norm_bias_logits: Float[np.ndarray, "100"],
) -> dict[str, Float[np.ndarray, "P 100"]]:
    """Year logits split by what wrote them; the values sum to the logits exactly.

    parts: everything written to the residual at END, by name; any number of writers each (heads, neurons, biases).
    readout: the unembedding's year columns times the gain, centred (`Model.year_readout`).
    norm_bias_logits: the final LayerNorm's bias through the unembedding, which no part carries.

    The identity of Elhage et al. (2021), with the final LayerNorm's scale frozen.
    """
    split = {name: part.sum(1) @ readout / scale[:, None] for name, part in parts.items()}
    split["ln_final.bias"] = np.broadcast_to(norm_bias_logits, (len(scale), N_YEARS))
    return split


def neuron_parts(n_cells: int, n_neurons: int) -> Iterator[slice]:
    """The neurons, so many at a time that their cells (centuries times start years) fit in a bounded memory."""
    size = max(1, PART_NUMBERS // n_cells)
    for start in range(0, n_neurons, size):
        yield slice(start, min(start + size, n_neurons))
