"""The whole study of a circuit, found or given: sufficiency, necessity, roles, and the inputs of the neurons."""

from collections.abc import Sequence
from dataclasses import replace

from neurons.cache.parts import Parts
from neurons.circuit.edge_attribution import attributed_circuit, edge_effects
from neurons.circuit.edges import EdgeEffects
from neurons.circuit.evaluation import evaluate, size_curves
from neurons.circuit.graph import Circuit
from neurons.circuit.inputs import explain_neurons
from neurons.circuit.paths import Patching, patching
from neurons.circuit.results import N_RANDOM, PROMPTS, CircuitStudy, Projection, SizeCurve
from neurons.circuit.roles import projection, roles
from neurons.circuit.search import find_circuit, search_parts
from neurons.circuit.search_results import Found, Search
from neurons.intervention.context import AblationContext
from neurons.types import InputError, NeuronId, Progress


def study_circuit(
    ctx: AblationContext,
    *,
    circuit: Circuit | None = None,
    search: Search = Search(),  # noqa: B008 - frozen
    neurons: Sequence[str | NeuronId] = (),
    prompts: int = PROMPTS,
    n_random: int = N_RANDOM,
    clean_heads: bool = False,
    seed: int = 0,
    keep: bool = True,
    progress: Progress | None = None,
) -> CircuitStudy:
    """Find the circuit, or take the one given, and run every analysis of it.

    neurons: those whose pre-activations are explained. prompts: how many are run, spread over start years and
    nouns. keep: an interrupted search goes on, from a folder beside the cache file. `progress` starts again for each
    part. Raises `InputError` for too few prompts, a neuron outside the model, or a search that finds nothing.
    """
    here, sizes = patching(ctx, prompts=prompts), tuple[SizeCurve, ...]()
    effects: EdgeEffects | None = None
    found: Found | None = None
    if circuit is None:
        effects, parts = edge_effects(here, progress=progress), search_parts(ctx, here) if keep else None
        found = _find(here, effects, search, parts=parts, progress=progress)
        sizes = size_curves(here, effects, found, seed=seed, progress=progress)
        circuit = found.circuit
    return CircuitStudy(
        model=ctx.model.name,
        layout=here.layout,
        found=found,
        evaluation=evaluate(here, _as_asked(circuit, clean_heads), n_random=n_random, seed=seed, progress=progress),
        roles=roles(here, circuit.nodes),
        projections=main_projections(here, circuit),
        inputs=explain_neurons(here, neurons),
        asked=(search, prompts, n_random, clean_heads),
        edge_effects=effects,
        sizes=sizes,
    )


def _as_asked(circuit: Circuit, clean_heads: bool) -> Circuit:
    if clean_heads and circuit.by_edges:
        raise InputError(f"circuit {circuit.name} is one of edges: it has no clean heads, evaluate it as it is")
    return replace(circuit, clean_heads=clean_heads)


def _find(
    here: Patching, effects: EdgeEffects, search: Search, *, parts: Parts | None, progress: Progress | None
) -> Found:  # fmt: skip
    if search.method == "eap-ig":
        found = attributed_circuit(here, effects, search)
        if not found.nodes:
            raise InputError(f"no path to the logits among {search.edges} edges: choose more")
        return found
    found = find_circuit(here, search, parts=parts, progress=progress)
    if not found.nodes:
        raise InputError(f"no component reaches the threshold {search.threshold:g}: choose a lower one")
    return found


def main_projections(here: Patching, circuit: Circuit) -> tuple[Projection, ...]:
    """Project residuals where the circuit moves the start year: at YY before its last head at END, at END after it."""
    first, end = here.layout.positions[0], here.layout.positions[-1]
    heads = [node.layer for node in circuit.nodes if node.head is not None and node.position == end]
    last = max(heads, default=here.layout.n_layers // 2)
    return projection(here, first, last), projection(here, end, last + 1)
