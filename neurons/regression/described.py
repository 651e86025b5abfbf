"""Curves that a description gives to each neuron: an activation for every start year.

1. A description is made from the tuning curves of all other centuries, so what it is tested on had no part in it.
2. `Curves` [C, Y, M]: for each century, start year and neuron of the layers the activation that the description says.
3. Those that `standard_descriptions` makes: the mean curve itself; the neuron's own family of curves, which is chosen
   by cross-validation; two levels; one family for all neurons; a few components that all neurons share (a singular
   value decomposition of their curves); and prototypes, the mean shape of a group at each member's own mean and height.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from neurons.clustering.families import FAMILIES, Family, fit, n_parameters
from neurons.decomposition.cells import Activations
from neurons.intervals import Cells, left_out, year_means
from neurons.rounding import sign_of_largest
from neurons.types import InputError, NeuronId

Curve = Float[np.ndarray, "Y M"]
COMPONENTS = (1, 2, 3, 5, 10, 20)
SPARE = 4
"""Start years beyond a family's parameters, for it to be fitted to all."""
MEAN_CURVE, GIVEN = "mean curve of other centuries", "given function"


@dataclass(frozen=True, eq=False)
class Description:
    """What is said of some neurons, `rows` of those of the layers; the others keep their mean curves.

    make: from the mean curves [Y, M] of other centuries to those of the description.
    """

    name: str
    rows: Int[np.ndarray, " m"]
    make: Callable[[Curve], Curve]

    def curves(self, own: Float[np.ndarray, "C Y M"]) -> Float[np.ndarray, "C Y M"]:
        """The description made for each century from the mean curves of the others."""
        said = own.copy()
        for place, curve in enumerate(own):
            said[place][:, self.rows] = self.make(curve[:, self.rows])
        return said


def own_curves(activations: Activations, start_years: Sequence[int]) -> Float[np.ndarray, "C Y M"]:
    """Mean activation by start year over the other centuries, for each century; M neurons, layer by layer.

    With one century there are no others: its own curve.
    """
    columns = np.searchsorted(activations.start_years, start_years)
    counts = activations.counts[:, columns]
    parts = []
    for found in activations.every_layer().values():
        value = found.activation[:, columns] / np.maximum(counts, 1)[..., None]
        cells = Cells(value, counts > 0)
        parts.append(left_out(cells) if len(counts) > 1 else year_means(cells)[None])
    return np.concatenate(parts, -1).astype(np.float32)


def standard_descriptions(
    start_years: Sequence[int],
    families: Sequence[Family],
    rows: Int[np.ndarray, " m"],
    groups: Mapping[str, Sequence[Int[np.ndarray, " _"]]],
) -> Iterator[Description]:
    """families: of each of the M neurons. rows: those described. groups: rows of neurons that share a prototype, by
    what the description is called.
    """
    years, own_family = tuple(start_years), [families[row] for row in rows.tolist()]
    yield Description(MEAN_CURVE, rows, lambda curve: curve)
    yield Description("fitted family of each neuron", rows, lambda curve: fitted(years, curve, own_family))
    yield Description("two levels", rows, two_levels)
    for family in (one for one in FAMILIES if n_parameters(one, years) + SPARE <= len(years)):
        yield Description(f"{family} for all", rows, _of_family(years, family))
    for k in (one for one in COMPONENTS if one < len(years)):
        yield Description(f"{k} shared component{'s' * (k > 1)}", rows, _components(k))
    for name, members in groups.items():
        described = [found for one in members if len(found := one[np.isin(one, rows)])]
        if described:
            yield Description(name, np.concatenate(described), _prototypes(list(map(len, described))))


def given_description(
    start_years: Sequence[int],
    neurons: Sequence[NeuronId],
    rows: Int[np.ndarray, " m"],
    describe: Callable[[int, NeuronId], float],
) -> Description:
    """The user's own: an activation from start year and neuron. Raises `InputError` where it gives no number."""
    try:
        values = np.array([[float(describe(year, neurons[row])) for row in rows.tolist()] for year in start_years])
    except (TypeError, ValueError) as error:
        raise InputError(f"a description must give a number for each start year and neuron: {error}") from None
    if not np.isfinite(values).all():
        raise InputError("a description must give a finite number for each start year and neuron")
    return Description(GIVEN, rows, lambda curve: values.reshape(curve.shape))


def fitted(years: tuple[int, ...], curve: Curve, families: Sequence[Family]) -> Curve:
    """Each curve as its family; its mean where no family fits."""
    said, of = np.empty_like(curve), np.array(families)
    for family in dict.fromkeys(families):
        rows = np.flatnonzero(of == family)
        said[:, rows] = _of_family(years, "constant" if family == "none" else family)(curve[:, rows])
    return said


def two_levels(curve: Curve) -> Curve:
    """Each curve as the two levels that fit it best (least squares), whatever start years have which."""
    Y = len(curve)
    order = np.argsort(curve, 0)
    ordered = np.take_along_axis(curve, order, 0).astype(float)
    below, count = np.cumsum(ordered, 0), np.arange(1, Y)[:, None]
    low, high = below[:-1] / count, (below[-1] - below[:-1]) / (Y - count)
    best = (count * (Y - count) * (high - low) ** 2).argmax(0)
    split = np.arange(Y)[:, None] <= best
    said = np.empty_like(curve)
    neurons = np.arange(curve.shape[1])
    np.put_along_axis(said, order, np.where(split, low[best, neurons], high[best, neurons]).astype(curve.dtype), 0)
    return said


def shared_components(curve: Curve, k: int) -> Curve:
    """Each curve as its mean and its projection on the k leading components of all curves."""
    mean = curve.mean(0)
    U = np.linalg.svd(curve - mean, full_matrices=False)[0][:, :k]
    return mean + U @ (U.T @ (curve - mean))


def standardised(curve: Curve) -> tuple[Curve, Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Shape of mean 0 and standard deviation 1 (0 for a constant), mean and standard deviation of each curve."""
    mean, size = curve.mean(0), curve.std(0)
    away = curve - mean
    return np.divide(away, size, out=np.zeros_like(away), where=size > 0), mean, size


def prototypes(curve: Curve, sizes: Sequence[int]) -> Curve:
    """Each curve as its own mean and the shape of its group at the height that fits it best (least squares).

    A group's shape is the mean of its members' shapes, each turned so that its largest deviation is up. Groups of so
    many neurons lie side by side.
    """
    mean = curve.mean(0)
    shape, _, _ = standardised((curve - mean) * sign_of_largest(curve - mean))
    said, ends = np.empty_like(curve), np.cumsum(sizes)
    for start, stop in zip(ends - sizes, ends, strict=True):
        here = slice(start, stop)
        of_group = standardised(shape[:, here].mean(1, keepdims=True))[0][:, 0]
        height = of_group @ (curve[:, here] - mean[here]) / len(curve)
        said[:, here] = mean[here] + np.outer(of_group, height)
    return said


def _of_family(years: tuple[int, ...], family: Family) -> Callable[[Curve], Curve]:
    return lambda curve: fit(family, years, curve, np.ones(len(years), bool)).astype(curve.dtype)


def _components(k: int) -> Callable[[Curve], Curve]:
    return lambda curve: shared_components(curve, k)


def _prototypes(sizes: Sequence[int]) -> Callable[[Curve], Curve]:
    return lambda curve: prototypes(curve, sizes)
