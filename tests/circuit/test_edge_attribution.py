"""Edge attribution against autograd through a plain run, its identities, and the circuits that it chooses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import PlantedCase
from edge_oracle import EdgeOracle
from hooked import hooked_model

from neurons.circuit.edge_attribution import attributed_circuit, edge_effects
from neurons.circuit.edges import EdgeEffects, levels, pruned
from neurons.circuit.evaluation import evaluate
from neurons.circuit.graph import Edge, Node, layout, parse_edge
from neurons.circuit.paths import Patching, patching, patching_of
from neurons.circuit.search_results import Search
from neurons.intervention.context import ablation_context
from neurons.model.model import Model
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import InputError

ROWS = np.array([40, 140, 250])


def some_prompts(model: Model) -> PromptSet:
    return year_spans(model.tokenizer, nouns=3, centuries="draw")


def patching_for(model: Model, prompts: PromptSet) -> Patching:
    """Three prompts in float64."""
    return patching_of(
        model.to(torch.float64),
        prompts.tokens[ROWS],
        prompts.counterfactual_tokens[prompts.counterfactual[ROWS]],
        first=prompts.year_position,
        start_year=prompts.start_year[ROWS],
        year_ids=prompts.year_token_ids,
    )


def every_edge(effects: EdgeEffects) -> dict[Edge, float]:
    """Read off the matrices, one by one."""
    found = {}
    for position, matrix in zip(effects.layout.positions, effects.effects, strict=True):
        for row, sender in enumerate(effects.senders(position)):
            for column, (receiver, slot) in enumerate(effects.layout.readers(position)):
                if receiver is None or sender.order < receiver.order:
                    found[Edge(sender, receiver, slot)] = float(matrix[row, column])
                else:
                    assert matrix[row, column] == 0
    return found


@pytest.mark.parametrize("steps", [5, 1])
def test_every_edges_effect_equals_autograd_through_hooks_in_a_planted_model(
    planted_case: Callable[[int], PlantedCase], steps: int
) -> None:
    model = planted_case(0).model
    prompts = some_prompts(model)
    paths = patching_for(model, prompts)
    ours = every_edge(edge_effects(paths, steps=steps))
    oracle = EdgeOracle(hooked_model(model, torch.float64).hf, paths.layout.positions, prompts.year_token_ids)
    truth = oracle.effects(
        prompts.tokens[ROWS],
        prompts.counterfactual_tokens[prompts.counterfactual[ROWS]],
        prompts.start_year[ROWS],
        paths.averaging,
        steps=steps,
    )
    expected = np.array([truth.of(edge) for edge in ours])
    assert np.abs(expected).max() > 1e-3
    assert np.abs(np.array(list(ours.values())) - expected).max() < 1e-6 * np.abs(expected).max()


def test_the_oracle_s_run_is_hugging_face_s(planted_case: Callable[[int], PlantedCase]) -> None:
    model = planted_case(0).model
    prompts, hf = some_prompts(model), hooked_model(model, torch.float64)
    oracle = EdgeOracle(hf.hf, ("YY", "END"), prompts.year_token_ids)
    logits = oracle.run(oracle.embed(prompts.tokens[ROWS]))[0]
    assert torch.allclose(logits, hf.logits(prompts.tokens[ROWS]), atol=1e-11)


def test_the_edges_of_the_embedding_integrate_to_the_whole_change(random_small: Model) -> None:
    """The left Riemann sum of 100 steps: within 2 % of the change between the two runs."""
    paths = patching_for(random_small, some_prompts(random_small))
    effects = edge_effects(paths, steps=100)
    whole = attributed_circuit(paths, effects, Search(method="eap-ig", edges=10)).whole
    assert abs(whole) > 1e-6
    assert effects.of_node(Node(-1, None, "YY")) == pytest.approx(whole, rel=0.02)


def test_float32_gives_the_effects_of_float64(mini_model: Model) -> None:
    paths = patching_for(mini_model, some_prompts(mini_model))
    single = patching_of(
        mini_model,
        (prompts := some_prompts(mini_model)).tokens[ROWS],
        prompts.counterfactual_tokens[prompts.counterfactual[ROWS]],
        first=prompts.year_position,
        start_year=prompts.start_year[ROWS],
        year_ids=prompts.year_token_ids,
    )
    exact = edge_effects(paths).effects
    size = max(np.abs(matrix).max() for matrix in exact)
    for found, expected in zip(edge_effects(single).effects, exact, strict=True):
        assert np.abs(found - expected).max() < 1e-4 * size


@pytest.mark.parametrize("choice", ["top-n", "greedy"])
def test_the_planted_circuit_is_found_by_its_edges(planted_case: Callable[[int], PlantedCase], choice: str) -> None:
    case = planted_case(0)
    paths = patching(ablation_context(case.model, case.cache), prompts=97)
    head = f"a{case.truth.head[0]}.h{case.truth.head[1]}@END"
    writing = sorted({neuron.layer for neuron in case.truth.roles["greater"]})
    found = attributed_circuit(paths, edge_effects(paths), Search(method="eap-ig", edges=12, choice=choice))
    assert {str(node) for node in found.nodes} == {"embed@YY", head, *(f"m{layer}@END" for layer in writing)}
    assert parse_edge("embed@YY", head.replace("@", ".v@")) in found.edges
    assert evaluate(paths, found.circuit, n_random=0).share > 0.9
    assert found.level[-1] == 1


# --- choosing -------------------------------------------------------------------------------------


@pytest.fixture
def made_up() -> EdgeEffects:
    """Two layers of one head; random effects."""
    where, rng = layout(2, 1, 2), np.random.default_rng(0)
    shapes = [(len(where.senders(4, position)), len(where.readers(position))) for position in where.positions]
    effects = [rng.normal(size=shape) for shape in shapes]
    for position, matrix in zip(where.positions, effects, strict=True):
        for row, sender in enumerate(where.senders(4, position)):
            for column, (receiver, _) in enumerate(where.readers(position)):
                matrix[row, column] *= receiver is None or sender.order < receiver.order
    return EdgeEffects(where, 5, tuple(effects))


def test_readers_are_the_inputs_of_all_components() -> None:
    where = layout(2, 3, 4)
    expected = {
        (node, slot, position)
        for at in where.positions
        for node in where.components(at)
        for slot, position in where.inputs(node)
    }
    found = [(node, slot, position) for position in where.positions for node, slot in where.readers(position)]
    assert len(found) == len(set(found))
    assert set(found) == expected | {(None, "in", "END")}


def test_the_first_n_edges_are_those_of_the_largest_effects_pruned(made_up: EdgeEffects) -> None:
    effects = every_edge(made_up)
    assert len(made_up) == len(effects)
    for n in (1, 7, 15, len(effects)):
        largest = sorted(effects, key=lambda edge: -abs(effects[edge]))[:n]
        assert made_up.circuit(n) == {edge: effects[edge] for edge in pruned(largest, [Node(-1, None, "YY")])}
    assert made_up.every_edge() == effects


def test_a_greedy_circuit_adds_the_largest_edge_into_what_is_reached(made_up: EdgeEffects) -> None:
    effects = every_edge(made_up)
    reached: set[Node | None] = {None}
    chosen: list[Edge] = []
    for _ in range(12):
        able = [edge for edge in effects if edge.receiver in reached and edge not in chosen]
        chosen.append(max(able, key=lambda edge: abs(effects[edge])))
        reached.add(chosen[-1].sender)
    assert set(made_up.circuit(12, "greedy")) == set(pruned(chosen, [Node(-1, None, "YY")]))


def test_without_positions_an_edge_is_at_all_of_them(made_up: EdgeEffects) -> None:
    effects, total = every_edge(made_up), dict[tuple[str, str], float]()

    def name(edge: Edge) -> tuple[str, str]:
        return edge.sender.component, edge.target.partition("@")[0]

    for edge, effect in effects.items():
        total[name(edge)] = total.get(name(edge), 0) + effect
    assert len(total) < len(effects)
    for n in (1, 5, 9, 1000):
        largest = sorted(total, key=lambda edge: -abs(total[edge]))[:n]
        chosen = [edge for edge in effects if name(edge) in largest]
        assert tuple(made_up.circuit_without_positions(n)) == pruned(chosen, [Node(-1, None, "YY")])


def test_what_no_path_connects_is_pruned() -> None:
    names = [
        ("embed@YY", "a1.h0.v@END"), ("a1.h0@END", "m1@END"), ("m1@END", "logits"),
        ("m0@END", "m1@END"), ("embed@YY", "m0@YY"), ("m2@END", "logits"),
    ]  # fmt: skip
    edges = [parse_edge(*pair) for pair in names]
    assert pruned(edges, [Node(-1, None, "YY")]) == tuple(edges[:3])
    assert pruned(edges, [Node(-1, None, "YY"), Node(2, None, "END")]) == (*edges[:3], edges[5])
    assert levels(edges[:3]) == {Node(1, None, "END"): 1, Node(1, 0, "END"): 2, Node(-1, None, "YY"): 3}


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_a_number_of_edges_that_the_graph_does_not_have_is_refused(made_up: EdgeEffects, n: int) -> None:
    with pytest.raises(InputError, match=f"{n} edges asked for: this graph has 1 to {len(made_up)}"):
        made_up.circuit(n)


def test_no_step_is_refused(mini_model: Model) -> None:
    with pytest.raises(InputError, match="0 steps asked for"):
        edge_effects(patching_for(mini_model, some_prompts(mini_model)), steps=0)
