"""Composition of the greater-than map from the neurons' maps.

1. The composed map is A @ R: tuning curves [YY, neurons] times readouts [neurons, years], the mean over
   the 100 years subtracted from each row. Its singular values show how many rank-one maps it takes; the
   regression on named shapes (`terms`) how much of it is ">". The same for each layer and group.
2. Sparse reconstruction: orthogonal matching pursuit over the neurons' own maps, fitted on half of the
   centuries, scored on the others. Maps have rank one, so their inner products are products of those of the
   factors, and no map is ever formed.
3. Near-duplicates compete for a place in it, so the pursuit is repeated on subsamples of the centuries, and the
   frequency at which each neuron is chosen is reported.
4. Neurons are added up, by score and greedily, until the sign of the summed map is that of ">" (above the
   mean for y > YY, below it for the rest) in 95 % of the cells.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.clustering.results import Tuning
from neurons.decomposition.population import Population, one_thread, strongest
from neurons.intervals import Cells, year_means
from neurons.regression.parts import Composer, count_signs, group_parts, layer_maps, layer_parts
from neurons.regression.results import LEVELS, SIGN_BAR, Composition, Part, Pursuit, Signs
from neurons.rounding import MARGIN, descending, reaches
from neurons.task.years import N_YEARS
from neurons.types import Neurons, Progress, check_is, check_progress, check_whole, parse_neurons

CAP = 1000
MOST = 200
PICKS = 20
SUBSAMPLES = 50
SPLITS = 5


@one_thread()
def compose(
    population: Population,
    tuning: Tuning,
    *,
    groups: Mapping[str, Neurons],
    cap: int = CAP,
    most: int = MOST,
    seed: int = 0,
    notes: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Composition:
    """Compose the maps of all neurons of a population, which should be all of the layers.

    tuning: the fits to be shown with it. groups: neurons by name (clusters), composed apart. cap:
    candidates of the pursuit and of the greedy order, those with the largest maps. most: how many of
    them may be chosen.
    """
    _check_asked(population, tuning, groups, notes, (cap, most, seed))
    check_progress(progress)
    done = progress or (lambda done, total: None)
    by_layer = layer_maps(population)
    total = sum((maps.value for maps in by_layer.values()), np.zeros((*population.held.shape, N_YEARS)))
    whole = Cells(total, population.held)
    composer = Composer(population.start_years, whole)
    everything = composer.part("all neurons", len(population), whole)
    layers = layer_parts(composer, population, by_layer)
    by_group = group_parts(composer, population, {name: parse_neurons(group) for name, group in groups.items()})
    done(1, 3)
    candidates = strongest(_map_size(population), cap)
    pursuit = _pursue(population, candidates, whole, most, seed)
    done(2, 3)
    signs = count_signs(population, candidates, most)
    done(3, 3)
    return Composition(
        model=population.model, start_years=population.start_years, tuning=tuning, whole=everything, by_layer=layers,
        by_group=by_group, fade=composer.fade, pursuit=pursuit, signs=signs, bias_contrast=population.bias_contrast,
        notes=(*notes, *_notes(population, everything, pursuit, signs)),
    )  # fmt: skip


def _check_asked(
    population: Population,
    tuning: Tuning,
    groups: Mapping[str, Neurons],
    notes: tuple[str, ...],
    numbers: tuple[int, int, int],
) -> None:
    check_is("population", population, Population, "what neuron_population(effects) returns")
    check_is("tuning", tuning, Tuning, "what tune(population) returns")
    check_is("groups", groups, Mapping, "neurons by name, like {'mine': ['L9N12']}")
    check_is("notes", notes, tuple, "texts in a tuple")
    for what, given, least in zip(("cap", "most", "seed"), numbers, (1, 1, 0), strict=True):
        check_whole(what, given, least=least)


def _map_size(population: Population) -> Float[np.ndarray, " N"]:
    """Root of the sum of squares of each neuron's year-centred map."""
    return np.linalg.norm(population.curve, axis=0) * np.linalg.norm(population.readout, axis=1)


@dataclass(frozen=True, eq=False)
class _Factors:
    """Over some of the centuries: tuning curves A [Y, M] and the whole map C [Y, 100]; readouts R [M, 100].

    RR [M, M]: the readouts' inner products, which no choice of centuries changes.
    """

    A: Float[np.ndarray, "Y M"]
    R: Float[np.ndarray, "M 100"]
    RR: Float[np.ndarray, "M M"]
    C: Float[np.ndarray, "Y 100"]


@dataclass(frozen=True, eq=False)
class _Path:
    """Neurons in the order chosen; column k - 1 of weights: those of the best sum of the first k."""

    order: Int[np.ndarray, " K"]
    weights: Float[np.ndarray, "K sums"]


@dataclass(frozen=True, eq=False)
class _Target:
    """What is pursued: the candidates, and the whole map of each century."""

    candidates: Population
    whole: Cells
    RR: Float[np.ndarray, "M M"]

    def over(self, centuries: Bool[np.ndarray, " C"], years: Bool[np.ndarray, " Y"]) -> _Factors:
        """Over some of the centuries, at start years that they have; both factors are averaged alike."""
        A, C = (
            year_means(Cells(cells.value[centuries][:, years], cells.held[centuries][:, years]))
            for cells in (self.candidates.cells, self.whole)
        )
        return _Factors(A, self.candidates.readout, self.RR, C)

    def years_of(self, centuries: Bool[np.ndarray, " C"]) -> Bool[np.ndarray, " Y"]:
        """The start years that any of them has."""
        return self.whole.held[centuries].any(0)


def _path(factors: _Factors, most: int) -> _Path:
    """Orthogonal matching pursuit with maps of norm 1; ends early where the rest adds nothing.

    A map equal to that of an earlier candidate adds nothing, so it is left out: which of two twins is chosen is then
    no matter of rounding.
    """
    from sklearn.linear_model import orthogonal_mp_gram

    size = np.linalg.norm(factors.A, axis=0) * np.sqrt(np.diag(factors.RR))
    live = size > MARGIN * size.max(initial=0)
    A = np.divide(factors.A, size, out=np.zeros_like(factors.A), where=live)
    gram = (A.T @ A) * factors.RR
    repeated = np.triu(np.abs(gram) > 1 - MARGIN, 1).any(0)
    A[:, repeated], gram[repeated], gram[:, repeated] = 0, 0, 0
    most = min(most, int((live & ~repeated).sum()))
    if not most or not factors.C.any():
        return _Path(np.zeros(0, int), np.zeros((0, 0)))
    products = ((factors.C @ factors.R.T) * A).sum(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        path = orthogonal_mp_gram(
            gram, products, n_nonzero_coefs=most, return_path=True, copy_Gram=False, copy_Xy=False
        )
    path = path.reshape(len(size), -1)
    chosen = (path != 0).any(1)
    first = np.where(chosen, (path != 0).argmax(1), path.shape[1])
    order = np.argsort(first, kind="stable")[: chosen.sum()]
    return _Path(order, path[order] / size[order, None])


def _pursue(population: Population, rows: Int[np.ndarray, " M"], whole: Cells, most: int, seed: int) -> Pursuit:
    candidates = population.take(rows)
    target = _Target(candidates, whole, candidates.readout @ candidates.readout.T)
    every = np.ones(candidates.n_centuries, bool)
    everything = target.over(every, target.years_of(every))
    path = _path(everything, most)
    r2 = _held_out(target, most, seed)
    frequency = _selection_frequency(target, min(PICKS, most), seed)
    enough = next((k for k, value in enumerate(r2.tolist(), 1) if reaches(value, LEVELS[0])), len(path.order))
    shown = min(enough, len(path.order))
    weights = path.weights[:, shown - 1] if shown else np.zeros(0)
    chosen = descending(frequency)[: int((frequency > 0).sum())]
    return Pursuit(
        candidates=len(candidates),
        order=tuple(candidates.neurons[row] for row in path.order),
        r2_heldout=tuple(r2.tolist()),
        shown=shown,
        reconstruction=(everything.A[:, path.order] * weights) @ everything.R[path.order],
        picks=min(PICKS, most),
        frequency=tuple((candidates.neurons[row], float(frequency[row])) for row in chosen),
    )


def _held_out(target: _Target, most: int, seed: int) -> Float[np.ndarray, " K"]:
    """R^2 on the centuries held out, for 1, 2, ... neurons; mean over the splits, as far as all of them go."""
    rng, count = np.random.default_rng(seed), target.candidates.n_centuries
    curves = []
    for _ in range(SPLITS if count > 1 else 0):
        fitted = _half(count, rng)
        years = target.years_of(fitted) & target.years_of(~fitted)
        if years.any():
            curves.append(_r2(target.over(~fitted, years), _path(target.over(fitted, years), most)))
    shortest = min(map(len, curves), default=0)
    return np.mean([curve[:shortest] for curve in curves], axis=0) if shortest else np.zeros(0)


def _half(count: int, rng: np.random.Generator) -> Bool[np.ndarray, " C"]:
    """Half of the centuries, the smaller half of an odd number."""
    return rng.permutation(count) < count // 2


def _r2(factors: _Factors, path: _Path) -> Float[np.ndarray, " sums"]:
    """R^2 of the path's weighted sums on these centuries; the map is centred, so the baseline is 0."""
    A, R = factors.A[:, path.order], factors.R[path.order]
    total = (factors.C**2).sum()
    if not total:
        return np.zeros(0)
    products = ((factors.C @ R.T) * A).sum(0)
    gram = (A.T @ A) * (R @ R.T)
    return (2 * products @ path.weights - ((gram @ path.weights) * path.weights).sum(0)) / total


def _selection_frequency(target: _Target, picks: int, seed: int) -> Float[np.ndarray, " M"]:
    """How often each neuron is among the first picks, over subsamples of half the centuries."""
    rng, candidates = np.random.default_rng(seed), target.candidates
    count, n = np.zeros(len(candidates)), candidates.n_centuries
    if n < 2:
        return count
    for _ in range(SUBSAMPLES):
        half = _half(n, rng)
        count[_path(target.over(half, target.years_of(half)), picks).order] += 1
    return count / SUBSAMPLES


def _notes(population: Population, whole: Part, pursuit: Pursuit, signs: Signs) -> tuple[str, ...]:
    notes = []
    if pursuit.candidates < len(population):
        notes.append(f"matching pursuit over the {pursuit.candidates} largest maps of {len(population)} neurons")
    if not whole.map.any():
        notes.append("the neurons' maps add up to nothing: there is nothing to reconstruct")
    if population.n_centuries < 2:
        notes.append("held-out R^2, selection and intervals need 2 centuries")
    if signs.all_neurons < SIGN_BAR:
        notes.append(f"all neurons together have the sign of '>' in {signs.all_neurons:.1%} of the cells, below 95 %")
    return tuple(notes)
