"""Path patching against plain hooks, circuits against planted ones, and what a circuit file may say."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PlantedCase
from oracle import double_bridge
from path_oracle import kept_logits, path_oracle

from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result
from neurons.circuit import roles as role_module
from neurons.circuit.edges import pruned, random_circuits
from neurons.circuit.evaluation import evaluate, keep_all_but_each, keep_nodes
from neurons.circuit.graph import (
    Circuit,
    Edge,
    Layout,
    Node,
    circuit_of,
    layout,
    parse_edge,
    parse_node,
    published_circuit,
    read_circuit,
)
from neurons.circuit.inputs import explain_neurons, parts_of_neurons
from neurons.circuit.paths import Patching, patching, patching_of
from neurons.circuit.results import CircuitStudy
from neurons.circuit.search import find_circuit, search_parts
from neurons.circuit.search_results import Search
from neurons.circuit.study import study_circuit
from neurons.intervention.context import AblationContext, ablation_context
from neurons.model.model import Model
from neurons.report.blocks import Gallery
from neurons.report.pages.circuit import circuit_page
from neurons.report.render import Site, write_page
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import InputError

N_PATHS = 40
GPT2_SMALL = layout(12, 12, 5)


def some_rows(model: Model, count: int) -> tuple[PromptSet, np.ndarray]:
    """Prompts of several nouns and start years; none of them is its own 01-counterfactual."""
    prompts = year_spans(model.tokenizer, nouns=3, centuries="draw")
    return prompts, np.array([40, 140, 250])[:count]


def patching_for(model: Model, dtype: torch.dtype, count: int = 3, skipped: int = 0) -> Patching:
    """Some prompts without their first `skipped` tokens."""
    prompts, rows = some_rows(model, count)
    return patching_of(
        model.to(dtype),
        prompts.tokens[rows, skipped:],
        prompts.counterfactual_tokens[prompts.counterfactual[rows], skipped:],
        first=prompts.year_position - skipped,
        start_year=prompts.start_year[rows],
        year_ids=prompts.year_token_ids,
    )


def random_paths(where: Layout, count: int, seed: int = 0) -> list[Edge]:
    """Paths into MLPs, heads' queries, keys and values at END, and straight to the logits."""
    rng = np.random.default_rng(seed)
    paths = []
    while len(paths) < count:
        kind = str(rng.choice(["logits", "in", "q", "k", "v"]))
        receiver, position, below = None, "END", 2 * where.n_layers
        if kind != "logits":
            layer = int(rng.integers(1, where.n_layers))
            receiver = Node(layer, None if kind == "in" else int(rng.integers(where.n_heads)), "END")
            below = receiver.order
            position = where.positions[rng.integers(len(where.positions))] if kind in "kv" else "END"
        senders = where.senders(below, position)
        slot: Any = "in" if kind == "logits" else kind
        paths.append(Edge(senders[rng.integers(len(senders))], receiver, slot))
    return paths


def largest_difference(model: Model, dtype: torch.dtype, bridge: Any, **size: int) -> float:
    """Between the year logits that 40 random paths give and those of the oracle."""
    ours = patching_for(model, dtype, **size)
    prompts, rows = some_rows(model, size.get("count", 3))
    skipped = size.get("skipped", 0)
    tokens, tokens_01 = prompts.tokens[rows], prompts.counterfactual_tokens[prompts.counterfactual[rows]]
    oracle = path_oracle(
        bridge, tokens[:, skipped:], tokens_01[:, skipped:], ours.layout.positions, prompts.year_token_ids
    )
    worst, moved = 0.0, 0
    for path in random_paths(ours.layout, N_PATHS):
        onward = [Edge(path.receiver, None)] if path.receiver else []
        found = ours.year_logits(ours.path_change([path.sender], path.receiver, path.slot, onward))[0]
        expected = oracle.year_logits(path)
        worst = max(worst, float((found - expected).abs().max()))
        moved += bool((expected - oracle.clean_years).abs().max() > 1e-6)
    assert moved > N_PATHS / 3, "the oracle must have something to say"
    return worst


@pytest.fixture(scope="module")
def mini_double(mini_model: Model) -> Any:
    return double_bridge(mini_model)


def test_paths_of_mini_equal_plain_hooks(mini_model: Model) -> None:
    assert largest_difference(mini_model, torch.float32, mini_model.bridge) < 1e-4


def test_paths_of_mini_equal_plain_hooks_in_double(mini_model: Model, mini_double: Any) -> None:
    assert largest_difference(mini_model, torch.float64, mini_double) < 1e-9


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), pytest.param(torch.float64, 1e-9, marks=pytest.mark.long)]
)
def test_paths_in_the_shape_of_gpt2_small_equal_plain_hooks(
    gpt2_shaped: Model, dtype: torch.dtype, tolerance: float
) -> None:
    bridge = gpt2_shaped.bridge if dtype == torch.float32 else double_bridge(gpt2_shaped)
    assert largest_difference(gpt2_shaped, dtype, bridge, count=1, skipped=6) < tolerance


def test_direct_changes_of_all_components_sum_to_the_whole_change(random_small: Model) -> None:
    paths = patching_for(random_small, torch.float64)
    senders = paths.layout.senders(2 * paths.layout.n_layers, "END")
    total = sum((paths.change(node) for node in senders), start=torch.zeros_like(paths.base.final))
    assert torch.allclose(total, paths.other.final - paths.base.final, atol=1e-11)


def everything(where: Layout) -> list[Node]:
    return [node for position in where.positions for node in where.components(position)]


def test_all_components_kept_are_the_model(random_small: Model) -> None:
    paths = patching_for(random_small, torch.float64).swapped()
    assert torch.allclose(paths.base.final + keep_nodes(paths, everything(paths.layout)), paths.other.final, atol=1e-11)


def test_a_neurons_path_is_its_own_share_of_its_mlps(random_small: Model) -> None:
    paths = patching_for(random_small, torch.float64)
    effects = paths.neuron_effects(10)
    hooked = paths.other.mid[10][:, -1], paths.base.mid[10][:, -1]
    block = paths.model.blocks[10]
    scale = [torch.nn.functional.layer_norm(x, (64,), block.ln_2.gain, block.ln_2.bias, 1e-5) for x in hooked]
    post = [torch.nn.functional.gelu(x @ block.W_in + block.b_in, approximate="tanh") for x in scale]
    change = (post[0] - post[1])[:, 7:8] * block.W_out[7]
    assert effects[7] == pytest.approx(paths.difference(change[None])[0] - paths.base_difference, abs=1e-12)
    total = (post[0] - post[1]) @ block.W_out
    assert torch.allclose(total, paths.change(Node(10, None, "END")), atol=1e-12)


def test_no_component_kept_is_the_01_run(random_small: Model) -> None:
    paths = patching_for(random_small, torch.float64).swapped()
    assert torch.equal(keep_nodes(paths, []), torch.zeros_like(paths.base.final))


@pytest.mark.parametrize("seed", [0, 1])
def test_kept_nodes_equal_a_run_with_all_others_held_by_hooks(mini_model: Model, mini_double: Any, seed: int) -> None:
    paths = patching_for(mini_model, torch.float64).swapped()
    choices = everything(paths.layout)
    chosen = [choices[i] for i in np.random.default_rng(seed).choice(len(choices), 150, replace=False)]
    prompts, rows = some_rows(mini_model, 3)
    tokens_01 = prompts.counterfactual_tokens[prompts.counterfactual[rows]]
    oracle = path_oracle(mini_double, prompts.tokens[rows], tokens_01, paths.layout.positions, prompts.year_token_ids)
    found = paths.year_logits(keep_nodes(paths, chosen)[None])[0]
    assert torch.allclose(found, kept_logits(oracle, chosen), atol=1e-9)
    assert not torch.allclose(found, oracle.clean_years, atol=1e-3)


def all_edges(where: Layout, nodes: list[Node]) -> list[Edge]:
    """Every edge between the nodes, from YY's embedding and to the logits."""
    start = Node(-1, None, where.positions[0])
    edges = [Edge(node, None) for node in nodes if node.position == "END"]
    for receiver in nodes:
        for slot, position in where.inputs(receiver):
            senders = [n for n in [start, *nodes] if n.position == position and n.order < receiver.order]
            edges += [Edge(sender, receiver, slot) for sender in senders]
    return edges


def test_clean_heads_need_no_lower_nodes_and_equal_a_run_with_hooks(mini_model: Model, mini_double: Any) -> None:
    paths = patching_for(mini_model, torch.float64).swapped()
    nodes = [parse_node(name) for name in ("a6.h1@END", "a7.h0@END", "m8@END", "m9@END", "m10@END", "m11@END")]
    prompts, rows = some_rows(mini_model, 3)
    tokens_01 = prompts.counterfactual_tokens[prompts.counterfactual[rows]]
    oracle = path_oracle(mini_double, prompts.tokens[rows], tokens_01, paths.layout.positions, prompts.year_token_ids)
    found = paths.year_logits(keep_nodes(paths, nodes, clean_heads=True)[None])[0]
    assert torch.allclose(found, kept_logits(oracle, nodes, clean_heads=True), atol=1e-9)
    lower = [*nodes, parse_node("m0@YY"), parse_node("m1@YY")]
    assert torch.allclose(paths.year_logits(keep_nodes(paths, lower, clean_heads=True)[None])[0], found, atol=1e-9)
    assert not torch.allclose(paths.year_logits(keep_nodes(paths, nodes)[None])[0], found, atol=1e-3)


def test_clean_heads_are_asked_for_and_told(mini_experiment: AblationContext) -> None:
    circuit = Circuit("late", tuple(parse_node(name) for name in ("a6.h1@END", "a7.h0@END", "m9@END", "m10@END")))
    both = [
        study_circuit(mini_experiment, circuit=circuit, prompts=97, n_random=0, clean_heads=clean).evaluation
        for clean in (False, True)
    ]
    assert [one.to_json()["evaluated_as"] for one in both] == ["nodes", "clean-heads"]
    assert both[1].alone.probability_difference > both[0].alone.probability_difference + 0.1
    edges = replace(circuit, by_edges=True)
    with pytest.raises(InputError, match="circuit late is one of edges"):
        study_circuit(mini_experiment, circuit=edges, prompts=97, n_random=0, clean_heads=True)


def test_a_circuit_with_all_its_edges_is_the_circuit_of_its_nodes(mini_model: Model) -> None:
    paths = patching_for(mini_model, torch.float64).swapped()
    names = ("m0@YY", "a3.h2@YY+1", "m1@YY+1", "a4.h1@END", "a6.h1@END", "m8@END", "m9@END", "m11@END")
    nodes = [parse_node(name) for name in names]
    start = parse_node("embed@YY")
    by_edges = paths.follow({start: paths.change(start)[None]}, all_edges(paths.layout, nodes))[0]
    assert torch.allclose(by_edges, keep_nodes(paths, nodes), atol=1e-12)
    assert by_edges.abs().max() > 1e-3


def test_cutting_all_that_leaves_a_node_is_leaving_it_out(mini_model: Model) -> None:
    paths = patching_for(mini_model, torch.float64).swapped()
    nodes = everything(paths.layout)
    out = parse_node("a6.h1@END")
    cut = [edge for edge in all_edges(paths.layout, nodes) if edge.sender == out]
    without = keep_nodes(paths, [node for node in nodes if node != out])
    assert torch.allclose(keep_nodes(paths, nodes, cut=cut), without, atol=1e-12)
    assert not torch.allclose(without, keep_nodes(paths, nodes), atol=1e-3)


@pytest.mark.parametrize("clean_heads", [False, True])
def test_all_but_each_node_is_the_circuit_without_it(mini_model: Model, clean_heads: bool) -> None:
    paths = patching_for(mini_model, torch.float64).swapped()
    names = ("m0@YY", "a3.h2@YY+1", "m1@YY+1", "a4.h1@END", "a4.h3@END", "a6.h1@END", "m8@END", "m9@END", "m11@END")
    nodes = [parse_node(name) for name in names]
    found = dict(keep_all_but_each(paths, nodes, clean_heads=clean_heads))
    assert set(found) == set(nodes)
    for out, change in found.items():
        alone = keep_nodes(paths, [node for node in nodes if node != out], clean_heads=clean_heads)
        assert torch.allclose(change, alone, atol=1e-12)


# --- what feeds a neuron --------------------------------------------------------------------------


def test_parts_of_a_pre_activation_sum_to_it(mini_model: Model, mini_double: Any) -> None:
    prompts, rows = some_rows(mini_model, 3)
    with torch.inference_mode():
        _, kept = mini_double.run_with_cache(torch.as_tensor(prompts.tokens[rows], dtype=torch.long))
    paths = patching_for(mini_model, torch.float64)
    for layer in range(12):
        parts = parts_of_neurons(paths, layer, range(256))
        assert (parts.sum(0) - kept[f"blocks.{layer}.mlp.hook_pre"][:, -1]).abs().max() < 1e-10


def test_the_planted_head_feeds_the_planted_neurons(planted_case: Callable[[int], PlantedCase]) -> None:
    case = planted_case(0)
    paths = patching(ablation_context(case.model, case.cache), prompts=97)
    layer, head = case.truth.head
    for found in explain_neurons(paths, case.truth.roles["greater"][:6]):
        assert found.carried.sum() == pytest.approx(1)
        assert found.carried[found.components.index(f"a{layer}.h{head}")] > 0.97


def test_a_neuron_that_is_not_there_is_refused(mini_model: Model) -> None:
    with pytest.raises(InputError, match=r"L10N256 does not exist: layer 10 has neurons 0-255"):
        explain_neurons(patching_for(mini_model, torch.float32), ["L10N256"])


# --- circuits that are known ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_planted_circuit_is_found_and_nothing_else(planted_case: Callable[[int], PlantedCase], seed: int) -> None:
    case = planted_case(seed)
    paths = patching(ablation_context(case.model, case.cache), prompts=97)
    found = find_circuit(paths)
    head = f"a{case.truth.head[0]}.h{case.truth.head[1]}@END"
    writing = {neuron.layer for neuron in case.truth.roles["greater"]}
    assert {str(node) for node in found.nodes} == {"embed@YY", head, *(f"m{layer}@END" for layer in writing)}
    result = evaluate(paths, found.circuit, n_random=0)
    planted = {neuron for members in case.truth.roles.values() for neuron in members}
    assert set(found.neurons) <= planted
    assert len(set(case.truth.roles["greater"]) & set(found.neurons)) >= 30
    lost = result.model.probability_difference - result.counterfactual.probability_difference
    assert result.share > 0.9
    without = result.left_out[head].probability_difference - result.counterfactual.probability_difference
    assert without < 0.02 * lost
    assert result.complement.probability_difference < result.counterfactual.probability_difference + 0.02 * lost


@pytest.fixture(scope="module")
def mini_experiment(mini_model: Model, mini_cache: Cache) -> AblationContext:
    return ablation_context(mini_model, mini_cache)


@pytest.fixture(scope="module")
def mini_study(mini_experiment: AblationContext) -> CircuitStudy:
    return study_circuit(mini_experiment, neurons=["L9N12", "L10N7"], n_random=20, keep=False)


def test_the_circuit_of_mini_carries_the_behaviour_and_random_ones_do_not(mini_study: CircuitStudy) -> None:
    one = mini_study.evaluation
    assert one.share > 0.8
    assert one.edges_alone is not None
    assert one.counterfactual.probability_difference < one.edges_alone.probability_difference
    assert one.edges_alone.probability_difference < one.alone.probability_difference
    assert one.random_band["high"] < one.counterfactual.probability_difference + 0.2
    assert one.complement.probability_difference < one.counterfactual.probability_difference + 0.05
    names = {str(node) for node in mini_study.circuit.nodes}
    assert {"embed@YY", "m0@YY", *(f"m{layer}@END" for layer in range(8, 12))} <= names
    assert all(node.layer < 8 for node in mini_study.circuit.nodes if node.head is not None)


def test_every_node_of_mini_s_circuit_lies_on_a_path_from_the_year(mini_study: CircuitStudy) -> None:
    edges = mini_study.circuit.edges
    assert pruned(edges, [parse_node("embed@YY")]) == edges
    assert {edge.sender for edge in edges} == set(mini_study.circuit.nodes)


def test_more_edges_are_more_faithful_and_random_ones_carry_nothing(mini_study: CircuitStudy) -> None:
    curves = {curve.by: curve for curve in mini_study.sizes}
    assert set(curves) == {"path-patching", "eap-ig", "eap-ig greedy", "random"}
    one = mini_study.evaluation
    clean, corrupted = one.model.probability_difference, one.counterfactual.probability_difference
    for by in ("path-patching", "eap-ig", "eap-ig greedy"):
        values = curves[by].probability_difference[:, 0]
        assert (np.diff(values) > -0.01).all()
    assert curves["eap-ig"].probability_difference[-1, 0] == pytest.approx(clean, abs=0.01)
    assert curves["random"].probability_difference.max() < corrupted + 0.1 * (clean - corrupted)
    assert one.edges_alone is not None
    whole = curves["path-patching"].probability_difference[-1, 0]
    assert whole == pytest.approx(one.edges_alone.probability_difference, abs=1e-6)
    entries = mini_study.to_json()["sizes"]
    assert len(entries) == sum(len(curve.asked) for curve in curves.values())
    assert entries[0].keys() == {"by", "asked", "edges", "probability_difference", "low", "high", "recovered"}


def test_the_model_and_the_01_run_of_an_evaluation_are_the_caches(mini_study: CircuitStudy, mini_cache: Cache) -> None:
    from neurons.task.behaviour import by_start_year, probability_difference, year_probabilities

    values = probability_difference(
        year_probabilities(mini_cache.year_logits, mini_cache.logsumexp), mini_cache.start_year
    )
    every_prompt = by_start_year(values, mini_cache.start_year)[2:99].mean()
    assert mini_study.evaluation.model.probability_difference == pytest.approx(every_prompt, abs=0.01)


def test_a_search_goes_on_where_it_was_interrupted(
    mini_experiment: AblationContext, mini_study: CircuitStudy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths = patching(mini_experiment)
    parts = replace(search_parts(mini_experiment, paths), folder=tmp_path)
    opened: list[str] = []
    real = Patching.path_effects
    monkeypatch.setattr(Patching, "path_effects", lambda *a: opened.append(f"{a[1][0]} {a[2]}.{a[3]}") or real(*a))

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_circuit(paths, parts=parts, progress=stop)
    assert len(opened) == 6
    found = find_circuit(paths, parts=parts)
    assert mini_study.found is not None
    assert found.edges == mini_study.found.edges
    assert len(opened) == len(set(opened)), "nothing is computed twice"


def test_breadth_opens_the_strongest_and_says_what_it_left(mini_experiment: AblationContext) -> None:
    found = find_circuit(patching(mini_experiment, prompts=97), Search(depth=2, breadth=2))
    assert {edge.receiver for edge in found.edges if edge.receiver} <= set(found.nodes)
    assert len({(edge.receiver, edge.slot) for edge in found.edges if edge.receiver}) <= 2
    assert found.unopened


def test_random_circuits_have_as_many_parts_of_each_kind_at_each_position() -> None:
    circuit = published_circuit(GPT2_SMALL)

    def kinds(nodes: Any) -> list[tuple[str, bool]]:
        return sorted((node.position, node.head is None) for node in nodes)

    for drawn in random_circuits(GPT2_SMALL, circuit, 3, np.random.default_rng(0)):
        assert len(set(drawn)) == len(circuit.nodes)
        assert kinds(drawn) == kinds(circuit.nodes)


def test_random_edges_are_possible(mini_study: CircuitStudy) -> None:
    where, rng = mini_study.layout, np.random.default_rng(0)
    by_edges = replace(mini_study.circuit, by_edges=True)
    for drawn in random_circuits(where, by_edges, 5, rng):
        assert len(drawn) == len(by_edges.edges)
        for edge in drawn:
            where.check_edge(edge, str(edge))


def test_a_circuit_of_edges_is_evaluated_by_its_edges(mini_experiment: AblationContext) -> None:
    paths = patching(mini_experiment, prompts=97)
    route = [("embed@YY", "m0@YY"), ("m0@YY", "a6.h1.v@END"), ("a6.h1@END", "m9@END"), ("m9@END", "logits")]
    circuit = circuit_of({"edges": [{"from": a, "to": b} for a, b in route]}, paths.layout, name="route")
    result = evaluate(paths, circuit, n_random=1)
    floor = result.counterfactual.probability_difference
    assert result.alone.probability_difference > floor + 0.005
    assert result.edges_alone == result.alone
    for left in result.left_out.values():
        assert left.probability_difference == pytest.approx(floor, abs=1e-6)
    assert result.complement.probability_difference < result.model.probability_difference


# --- roles ----------------------------------------------------------------------------------------


def test_attention_sums_to_one_and_the_planted_head_looks_at_the_year(
    planted_case: Callable[[int], PlantedCase],
) -> None:
    case = planted_case(0)
    paths = patching(ablation_context(case.model, case.cache), prompts=97)
    layer, head = case.truth.head
    (found,) = role_module.roles(paths, [Node(layer, head, "END")])
    assert found.attention.sum() == pytest.approx(1, abs=1e-5)
    assert found.on_year > 0.9


def test_what_an_mlp_writes_is_its_neurons_direct_effects_and_bias(
    mini_experiment: AblationContext, mini_cache: Cache
) -> None:
    paths = patching(mini_experiment, prompts=97)
    written = role_module.written_map(paths, Node(10, None, "END"))
    bias = mini_cache.read("readout/10_bias")
    for row, year in ((0, 2), (50, 52), (96, 98)):
        at = [i for i in mini_experiment.rows if mini_cache.start_year[i] == year]
        maps = (mini_cache.post(10)[at] @ mini_cache.readout(10) + bias) / mini_cache.scale[at, None]
        assert np.abs(maps - written[row]).max(1).min() < 1e-4, "one of the year's prompts is the one run"


def test_the_axes_of_a_projection_hold_the_most_variance(mini_experiment: AblationContext) -> None:
    paths = patching(mini_experiment, prompts=97)
    found = role_module.projection(paths, "YY", 6)
    residuals = paths.base.pre[6][:, 0].double().numpy()[np.argsort(paths.start_year)]
    sizes = np.linalg.eigvalsh(np.cov(residuals.T, bias=True))[::-1]
    assert found.explained == pytest.approx(tuple(sizes[:2] / sizes.sum()), abs=1e-6)
    assert found.points.var(0) == pytest.approx(sizes[:2], rel=1e-5)


# --- files and refusals ---------------------------------------------------------------------------


def test_what_is_printed_is_read_again_as_the_same_circuit(mini_study: CircuitStudy, tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps(mini_study.to_json()))
    again = read_circuit(path, mini_study.layout)
    assert set(again.nodes) == set(mini_study.circuit.nodes)
    assert set(again.edges) == set(mini_study.circuit.edges)
    assert not again.by_edges


def test_a_kept_study_is_the_study(mini_study: CircuitStudy, mini_cache: Cache) -> None:
    keep_result(mini_cache, "test-circuit", {}, mini_study)
    again = kept_result(mini_cache, "test-circuit", {}, CircuitStudy)
    assert again is not None
    assert again.to_json() == mini_study.to_json()


def test_the_published_circuit_has_the_published_parts() -> None:
    circuit = published_circuit(GPT2_SMALL)
    assert len(circuit.nodes) == 7 + 4 + 4 + 3
    assert circuit.published == {"probability_difference": 0.727, "share": 0.895}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "circuit c.json is empty"),
        ([1], "c.json is not a circuit"),
        ({"nodes": "m1@END"}, "c.json is not a circuit"),
        ({"nodes": ["m1@END", "m12@END"]}, r"node 2 \(m12@END\): layer 12 is not in this model: it has layers 0-11"),
        ({"nodes": ["a1.h4@END"]}, r"node 1 \(a1.h4@END\): head 4 is not in this model: layers have heads 0-3"),
        ({"nodes": ["m1@YY+9"]}, r"node 1 \(m1@YY\+9\): invalid position 'YY\+9': choose among YY, YY\+1"),
        ({"nodes": [{"node": "m1"}]}, "node 1: invalid node 'm1@None'"),
        ({"nodes": [7]}, "node 1: invalid node 7"),
        ({"nodes": ["a1.h1.q@END"]}, "node 1: invalid node 'a1.h1.q@END': it names an input"),
        ({"nodes": ["embed@END"]}, r"node 1 \(embed@END\): only the embedding at YY differs"),
        ({"edges": ["m1@END"]}, "edge 1: 'm1@END' is not an edge"),
        ({"edges": [{"from": "m3@END", "to": "m2@END"}]}, r"edge 1 \(m3@END -> m2@END\): the sender m3"),
        ({"edges": [{"from": "a3.h0@END", "to": "a3.h1.q@END"}]}, "does not come before the receiver"),
        ({"edges": [{"from": "m1@END", "to": "a2.h1.v@YY"}]}, "the sender's position END comes after YY"),
        ({"edges": [{"from": "m1@YY", "to": "m2@END"}]}, "only a head's keys and values"),
        ({"edges": [{"from": "m1@YY", "to": "a2.h1.q@END"}]}, "only a head's keys and values"),
        ({"edges": [{"from": "m1@YY", "to": "logits"}]}, "the logits read END, not YY"),
        ({"edges": [{"from": "m1@END", "to": "a2.h1@END"}]}, "name a head's input q, k or v"),
        ({"edges": [{"from": "m1@YY", "to": "embed@YY"}]}, "the embedding has no input"),
    ],
)
def test_a_malformed_or_impossible_circuit_is_refused_by_its_entry(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as refused:
        read_circuit(path, layout(12, 4, 5))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_circuit(tmp_path / "c.json", GPT2_SMALL)
    with pytest.raises(InputError, match="cannot be read"):
        read_circuit(tmp_path / "none.json", GPT2_SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth 0"),
        ({"threshold": 0.0}, "threshold 0"),
        ({"threshold": 1.5}, "1.5"),
        ({"breadth": 0}, "0"),
    ],
)
def test_a_search_that_finds_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Search(**settings)


def test_an_edge_reads_as_it_is_written() -> None:
    edge = parse_edge("m0@YY", "a6.h1.v@END")
    assert str(edge) == "m0@YY -> a6.h1.v@END"
    assert parse_edge("m9@END", "logits").target == "logits"


# --- the page -------------------------------------------------------------------------------------


def test_the_page_shows_the_circuit_its_measures_and_what_feeds_the_neurons(
    mini_study: CircuitStudy, tmp_path: Path
) -> None:
    page = circuit_page(mini_study, [f"t{i}" for i in range(13)])
    write_page(page, Site(model="mini", footer="", navigation=()), tmp_path)
    html = (tmp_path / "circuit.html").read_text(encoding="utf-8")
    for message in ("a6.h1", "random circuits", "Inputs of the neurons", "L9N12", "attention on YY"):
        assert message in html
    blocks = [block for section in page.sections for block in section.blocks]
    pictures = {picture.name: picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures}
    names = ("circuit", "circuit-kept", "circuit-sizes", "circuit-attention", "circuit-maps", "circuit-projection")
    assert set(names) <= set(pictures)
    for picture in pictures.values():
        assert picture.draw().axes
    assert json.loads(json.dumps(page.data, allow_nan=False)) == json.loads(json.dumps(mini_study.to_json()))


def test_a_given_circuit_has_a_page_too(mini_experiment: AblationContext, tmp_path: Path) -> None:
    circuit = Circuit("mine", tuple(parse_node(name) for name in ("m0@YY", "m9@END", "m10@END")))
    study = study_circuit(mini_experiment, circuit=circuit, prompts=97, n_random=0)
    write_page(circuit_page(study, ["t"] * 13), Site(model="mini", footer="", navigation=()), tmp_path)
    assert "given as mine" in (tmp_path / "circuit.md").read_text(encoding="utf-8")
    assert study.to_json()["nodes"][0]["effect"] is not None
