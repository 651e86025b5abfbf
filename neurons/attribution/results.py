"""What attribution found: frozen results of plain arrays. No torch, so that a report needs none."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.attribution.recovery import Recovery
from neurons.intervals import Cells, Interval, interval, year_means
from neurons.rounding import descending
from neurons.shown import Shown
from neurons.types import InputError, Measure, NeuronId, check_choice, check_whole

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Shown):
    """Shares of M neurons in a measure, in its units. C centuries, Y start years; neurons layer by layer.

    by_century, written_by_century [C, Y, M]: share and written share, averaged over the prompts of a century
    and start year; NaN where there is none (n_prompts [C, Y] is 0). clean_by_century, floor_by_century [C, Y]: the
    measure as it is, and with all neurons at a random other start year. draws: other start years drawn for each
    prompt; steps: nodes of the integral. A mean over centuries is `year_means`: every century counts the same.
    """

    model: str
    measure: Measure
    layers: tuple[int, ...]
    start_years: tuple[int, ...]
    centuries: tuple[int, ...]
    n_prompts: Int[np.ndarray, "C Y"]
    by_century: Float[np.ndarray, "C Y M"]
    written_by_century: Float[np.ndarray, "C Y M"]
    clean_by_century: Float[np.ndarray, "C Y"]
    floor_by_century: Float[np.ndarray, "C Y"]
    draws: int
    seed: int
    steps: int

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "measure": self.measure,
            "neurons": self.by_century.shape[-1],
            "prompts": int(self.n_prompts.sum()),
            "clean": f"{self.clean.mean():+.4f}",
            "floor": f"{self.floor.mean():+.4f}",
            "error of the sum": f"{self.sum_error:.2%}",
        }

    @cached_property
    def neurons(self) -> tuple[NeuronId, ...]:
        """The neurons in the order of the arrays."""
        d_mlp = self.by_century.shape[-1] // len(self.layers)
        return tuple(NeuronId(layer, index) for layer in self.layers for index in range(d_mlp))

    @cached_property
    def by_start_year(self) -> Float[np.ndarray, "Y M"]:
        """Share at each start year: the mean over centuries."""
        return self._over_centuries(self.by_century)

    @cached_property
    def written_by_start_year(self) -> Float[np.ndarray, "Y M"]:
        """Written share at each start year."""
        return self._over_centuries(self.written_by_century)

    @cached_property
    def share(self) -> Float[np.ndarray, " M"]:
        """Mean over start years. Shares add up to clean minus floor, but for the error of the sum."""
        return self.by_start_year.mean(0)

    @cached_property
    def written_share(self) -> Float[np.ndarray, " M"]:
        """Mean written share over start years, in units of the measure; adds up to the same."""
        return self.written_by_start_year.mean(0)

    @cached_property
    def share_interval(self) -> Interval:
        """The 95 % interval of each share, centuries as replicates; bounds are NaN with one century."""
        return self.interval_at(None)

    def interval_at(self, start_year: int | None) -> Interval:
        """The same at one start year; None for the mean over start years."""
        place = slice(None) if start_year is None else [self.place_of(start_year)]
        return interval(self._cells(self.by_century), lambda mean: mean[place].mean(0))

    @property
    def ci_low(self) -> Float[np.ndarray, " M"]:
        """Lower end of the 95 % interval of each share, over centuries."""
        return self.share_interval.low

    @property
    def ci_high(self) -> Float[np.ndarray, " M"]:
        """Upper end of the 95 % interval of each share, over centuries."""
        return self.share_interval.high

    @cached_property
    def clean(self) -> Float[np.ndarray, " Y"]:
        """The measure as it is."""
        return self._over_centuries(self.clean_by_century)

    @cached_property
    def floor(self) -> Float[np.ndarray, " Y"]:
        """The measure with all neurons of the layers at a random other start year."""
        return self._over_centuries(self.floor_by_century)

    @property
    def sum_error(self) -> float:
        """What the sum of shares or of written shares (the worse) misses of clean minus floor.

        As a part of what the measure moves between the two: the mean of |clean - floor| over centuries and start
        years, which is clean minus floor itself where all move the same way.
        """
        whole = float((self.clean - self.floor).mean())
        moved = self._over_centuries(np.abs(self.clean_by_century - self.floor_by_century)).mean()
        worst = max(abs(float(shares.sum()) - whole) for shares in (self.share, self.written_share))
        return float(worst / moved) if moved else float(worst > 0)

    def share_of(self, neuron: str | NeuronId) -> float:
        """One neuron's share; `InputError` for one that is not among those attributed."""
        return float(self.share[self._row(neuron)])

    def order(self, centuries: Bool[np.ndarray, " C"] | None = None) -> Int[np.ndarray, " M"]:
        """Rows of the neurons, largest share first; equal shares by layer and index. centuries: from these alone."""
        if centuries is None:
            return descending(self.share)
        some = Cells(self.by_century[centuries], self.n_prompts[centuries] > 0)
        return descending(np.nanmean(year_means(some), 0))

    def to_json(self) -> dict[str, Any]:
        """All neurons, largest share first, in units of the measure."""
        records = self.to_frame().to_dict("records")
        return {
            "model": self.model,
            "measure": self.measure,
            "layers": list(self.layers),
            "start_years": list(self.start_years),
            "centuries": list(self.centuries),
            "prompts": int(self.n_prompts.sum()),
            "draws": self.draws,
            "seed": self.seed,
            "steps": self.steps,
            "clean": float(self.clean.mean()),
            "floor": float(self.floor.mean()),
            "sum_error": self.sum_error,
            "neurons": [{key: None if value != value else value for key, value in one.items()} for one in records],
        }

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron, largest share first, in units of the measure."""
        import pandas as pd

        order = self.order()
        columns = {"share": self.share, "ci_low": self.ci_low, "ci_high": self.ci_high,
                   "written_share": self.written_share}  # fmt: skip
        names = [str(self.neurons[row]) for row in order.tolist()]
        return pd.DataFrame({"neuron": names} | {name: values[order] for name, values in columns.items()})

    def to_xarray(self) -> "xr.Dataset":
        """Share and written share by start year and neuron, clean and floor by start year, in units of the measure."""
        from neurons.labelled import labelled, together

        unit, years, neurons = self.measure.replace("_", " "), self.start_years, self.neurons
        found = {
            "share": labelled(self.by_start_year, unit=unit, start_year=years, neuron=neurons),
            "written_share": labelled(self.written_by_start_year, unit=unit, start_year=years, neuron=neurons),
            "clean": labelled(self.clean, unit=unit, start_year=years),
            "floor": labelled(self.floor, unit=unit, start_year=years),
        }
        return together(**found)

    def place_of(self, start_year: int) -> int:
        """Where a start year stands among those measured; `InputError` for one that is not."""
        if check_whole("start_year", start_year) not in self.start_years:
            first, last = self.start_years[0], self.start_years[-1]
            raise InputError(f"start year {start_year} is not measured: choose within {first:02d}-{last:02d}")
        return self.start_years.index(start_year)

    def _over_centuries(self, cells: Float[np.ndarray, "C Y ..."]) -> Float[np.ndarray, "Y ..."]:
        return year_means(self._cells(cells))

    def _cells(self, cells: Float[np.ndarray, "C Y ..."]) -> Cells:
        return Cells(cells, self.n_prompts > 0)

    def _row(self, neuron: str | NeuronId) -> int:
        found = NeuronId.parse(neuron)
        d_mlp = self.by_century.shape[-1] // len(self.layers)
        if found.layer not in self.layers or found.index >= d_mlp:
            layers = ", ".join(map(str, self.layers))
            raise InputError(f"{found} was not attributed: choose neurons 0-{d_mlp - 1} of layers {layers}")
        return self.layers.index(found.layer) * d_mlp + found.index


@dataclass(frozen=True, eq=False, repr=False)
class Attributed(Shown):
    """What is kept of a study: shares in each measure, and what the first k of some recover."""

    shares: tuple[Attribution, ...]
    recoveries: tuple[Recovery, ...]

    def summary(self) -> dict[str, object]:
        return {"measures": [one.measure for one in self.shares], "draws": self.shares[0].draws}

    def share(self, measure: Measure) -> Attribution:
        """Shares in one measure."""
        check_choice("measure", measure, Measure)
        for one in self.shares:
            if one.measure == measure:
                return one
        known = " or ".join(one.measure for one in self.shares)
        raise InputError(
            f"no shares of the {measure} are kept: choose {known}, or attribute(ctx, measures=[{measure!r}])"
        )

    def recovery(self, measure: Measure) -> Recovery:
        """What the first k recover of one measure; `InputError` for the contrast, whose sets are not run."""
        check_choice("measure", measure, Measure)
        for one in self.recoveries:
            if one.measure == measure:
                return one
        known = " or ".join(one.measure for one in self.recoveries)
        raise InputError(f"no sets were run for the {measure}: choose {known}")


@dataclass(frozen=True, eq=False, repr=False)
class ShapleyValues(Shown):
    """Sampled Shapley values of n neurons in a measure, in its units: value [n], with its standard_error [n]."""

    measure: Measure
    neurons: tuple[NeuronId, ...]
    samples: int
    value: Float[np.ndarray, " n"]
    standard_error: Float[np.ndarray, " n"]

    def summary(self) -> dict[str, object]:
        return {"measure": self.measure, "neurons": len(self.neurons), "samples": self.samples}

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron, in the order asked for."""
        import pandas as pd

        names = [str(neuron) for neuron in self.neurons]
        return pd.DataFrame({"neuron": names, "value": self.value, "standard_error": self.standard_error})

    def to_json(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "samples": self.samples,
            "neurons": [{**row} for row in self.to_frame().to_dict("records")],
        }
