"""Composition of the greater-than map from the neurons' maps.

1. The composed map is A @ R: tuning curves [YY, neurons] times readouts [neurons, years], the mean over
   the 100 years subtracted from each row. Its singular values show how many rank-one maps it takes; the
   regression on named shapes (`terms`) how much of it is ">". The same for each layer and group.
2. Sparse reconstruction: orthogonal matching pursuit over the neurons' own maps, fitted on some nouns and
   centuries, scored on others. Maps have rank one, so their inner products are products of those of the
   factors, and no map is ever formed.
3. Near-duplicates compete for a place in it, so the pursuit is repeated on subsamples of the nouns, and the
   frequency at which each neuron is chosen is reported.
4. Neurons are added up, by score and greedily, until the sign of the summed map is that of ">" (above the
   mean for y > YY, below it for the rest) in 95 % of the cells.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.clustering.results import Tuning
from neurons.decomposition.population import Population, one_thread, strongest
from neurons.regression.parts import Composer, MapSums, count_signs, group_parts, layer_parts, layer_sums
from neurons.regression.results import LEVELS, SIGN_BAR, Composition, Part, Pursuit, Signs
from neurons.rounding import MARGIN, descending, reaches
from neurons.task.years import N_YEARS
from neurons.types import Neurons, Progress, check_is, check_progress, check_resamples, check_whole, parse_neurons

CAP = 1000
MOST = 200
PICKS = 20
RESAMPLES = 1000
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
    resamples: int = RESAMPLES,
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
    check_resamples(resamples)
    check_progress(progress)
    done = progress or (lambda done, total: None)
    by_layer = layer_sums(population)
    whole = sum(by_layer.values(), np.zeros((*population.noun_counts.shape, 100)))
    composer = Composer(population, whole, resamples, seed)
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
    """Mean over some of the prompts: tuning curves A [Y, M] and the whole map C [Y, 100]; readouts R [M, 100].

    RR [M, M]: the readouts' inner products, which no choice of prompts changes.
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
    """What is pursued: the candidates, rows of the population, and the whole map as sums over nouns."""

    population: Population
    rows: Int[np.ndarray, " M"]
    candidates: Population
    whole: MapSums
    RR: Float[np.ndarray, "M M"]

    def of_nouns(self, nouns: Float[np.ndarray, " nouns"], years: Bool[np.ndarray, " Y"]) -> _Factors:
        """Over nouns taken with these weights, at start years that they all have."""
        prompts = (nouns @ self.candidates.noun_counts)[years, None]
        A = np.tensordot(nouns.astype(np.float32), self.candidates.noun_sums, 1)[years].astype(float) / prompts
        return _Factors(A, self.candidates.readout, self.RR, np.tensordot(nouns, self.whole, 1)[years] / prompts)

    def of_groups(self, groups: Float[np.ndarray, "W G"]) -> tuple[_Factors, ...]:
        """Sums, not means, over groups of prompts taken with each row of weights, at all start years."""
        W, Y = len(groups), len(self.population.start_years)
        A, C = np.zeros((W, Y, len(self.rows))), np.zeros((W, Y, N_YEARS))
        column = np.full(len(self.population), -1)
        column[self.rows] = np.arange(len(self.rows))
        for rows, sums in self.population.parts():
            total = np.tensordot(groups, sums, 1)
            C += total @ self.population.readout[rows]
            here = column[rows] >= 0
            A[:, :, column[rows[here]]] = total[:, :, here]
        return tuple(_Factors(a, self.candidates.readout, self.RR, c) for a, c in zip(A, C, strict=True))


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


def _pursue(population: Population, rows: Int[np.ndarray, " M"], whole: MapSums, most: int, seed: int) -> Pursuit:
    candidates = population.take(rows)
    target = _Target(population, rows, candidates, whole, candidates.readout @ candidates.readout.T)
    everything = target.of_nouns(np.ones(candidates.n_nouns), np.ones(len(candidates.start_years), bool))
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
    """R^2 on the prompts held out, for 1, 2, ... neurons; mean over the splits, as far as all of them go."""
    rng, candidates = np.random.default_rng(seed), target.candidates
    splits = [split(candidates.noun, candidates.century, rng) for _ in range(SPLITS if candidates.n_nouns > 1 else 0)]
    if not splits:
        return np.zeros(0)
    prompts = np.concatenate(splits) @ candidates.counts
    found = target.of_groups(np.concatenate(splits))
    curves = []
    for train in range(0, len(found), 2):
        years = (prompts[train] > 0) & (prompts[train + 1] > 0)
        if years.any():
            fitted, scored = (_mean(found[w], prompts[w], years) for w in (train, train + 1))
            curves.append(_r2(scored, _path(fitted, most)))
    shortest = min(map(len, curves), default=0)
    return np.mean([curve[:shortest] for curve in curves], axis=0) if shortest else np.zeros(0)


def _mean(sums: _Factors, prompts: Float[np.ndarray, " Y"], years: Bool[np.ndarray, " Y"]) -> _Factors:
    """Sums over prompts made means, at these start years."""
    return replace(sums, A=sums.A[years] / prompts[years, None], C=sums.C[years] / prompts[years, None])


def split(
    noun: Int[np.ndarray, " G"], century: Int[np.ndarray, " G"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, " G"], Float[np.ndarray, " G"]]:
    """Groups to fit to and groups to score, as weights 0 or 1.

    They share no noun and, where there are several centuries, no century.

    Half the centuries are held out; a noun that has prompts on both sides goes to one of them.
    """
    centuries, nouns = np.unique(century), np.unique(noun)
    held = rng.permutation(centuries)[: len(centuries) // 2]
    side = np.isin(century, held)
    if len(centuries) == 1:
        side = np.isin(noun, rng.permutation(nouns)[: len(nouns) // 2])
    both = np.intersect1d(noun[side], noun[~side])
    scored = rng.permutation(both)[: len(both) // 2]
    fitted = np.setdiff1d(both, scored)
    train, test = ~side & ~np.isin(noun, scored), side & ~np.isin(noun, fitted)
    return train.astype(float), test.astype(float)


def _r2(factors: _Factors, path: _Path) -> Float[np.ndarray, " sums"]:
    """R^2 of the path's weighted sums on these prompts; the map is centred, so the baseline is 0."""
    A, R = factors.A[:, path.order], factors.R[path.order]
    total = (factors.C**2).sum()
    if not total:
        return np.zeros(0)
    products = ((factors.C @ R.T) * A).sum(0)
    gram = (A.T @ A) * (R @ R.T)
    return (2 * products @ path.weights - ((gram @ path.weights) * path.weights).sum(0)) / total


def _selection_frequency(target: _Target, picks: int, seed: int) -> Float[np.ndarray, " M"]:
    """How often each neuron is among the first picks, over subsamples of half the nouns."""
    rng, candidates = np.random.default_rng(seed), target.candidates
    count, n = np.zeros(len(candidates)), candidates.n_nouns
    if n < 2:
        return count
    for _ in range(SUBSAMPLES):
        half = np.isin(np.arange(n), rng.permutation(n)[: n // 2]).astype(float)
        count[_path(target.of_nouns(half, half @ candidates.noun_counts > 0), picks).order] += 1
    return count / SUBSAMPLES


def _notes(population: Population, whole: Part, pursuit: Pursuit, signs: Signs) -> tuple[str, ...]:
    notes = []
    if pursuit.candidates < len(population):
        notes.append(f"matching pursuit over the {pursuit.candidates} largest maps of {len(population)} neurons")
    if not whole.map.any():
        notes.append("the neurons' maps add up to nothing: there is nothing to reconstruct")
    if population.n_nouns < 2:
        notes.append("held-out R^2, selection and intervals need at least two nouns")
    if signs.all_neurons < SIGN_BAR:
        notes.append(f"all neurons together have the sign of '>' in {signs.all_neurons:.1%} of the cells, below 95 %")
    return tuple(notes)
