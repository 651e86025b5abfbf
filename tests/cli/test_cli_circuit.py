"""`neurons circuit`: its JSON, its tables, circuits from files, and refusals in one line."""

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from random_gpt2 import write_random_gpt2

import neurons
from neurons.circuit.graph import layout, read_circuit
from neurons.cli.main import main
from neurons.study.study import Study

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--on-prompts", "97", "--random", "3", "--quiet")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mini_cache: neurons.Cache) -> Run:
    """Runs `neurons circuit` on the cache that is there."""

    def call(*arguments: object) -> tuple[int, str, str]:
        command = ["neurons", "circuit", "--cache-dir", str(mini_cache.path.parent), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def test_json_is_as_documented_and_is_a_circuit_file(run: Run, mini_cache: neurons.Cache, tmp_path: Path) -> None:
    code, out, err = run(*QUICK, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["model"] == "mini"
    assert {"node", "position", "effect"} <= set(found["nodes"][0])
    assert {"from", "to", "effect"} <= set(found["edges"][0])
    behaviour = found["behaviour"]
    assert {"model", "circuit", "complement", "counterfactual", "random"} <= set(behaviour)
    assert {"mean", "low", "high"} <= set(behaviour["random"])
    assert behaviour["circuit"] / behaviour["model"] > 0.8
    assert {entry["by"] for entry in found["sizes"]} == {"path-patching", "eap-ig", "eap-ig greedy", "random"}
    path = tmp_path / "found.json"
    path.write_text(out)
    assert len(read_circuit(path, layout(12, 4, 5)).nodes) == len(found["nodes"])
    kept = Study(cache_dir=mini_cache.path.parent).kept("circuit")
    assert kept is not None
    assert kept.to_json() == found


def test_edge_attribution_finds_a_circuit_that_other_tools_can_read(run: Run, tmp_path: Path) -> None:
    graph, drawing = tmp_path / "graph.json", tmp_path / "circuit.graphml"
    asked = ("--method", "eap-ig", "--edges", "60", "--choose", "greedy", *QUICK)
    code, out, err = run(*asked, "--export", graph, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["method"], found["n_edges"], found["choice"]) == ("eap-ig", 60, "greedy")
    assert found["behaviour"]["edges_alone"] > 0.5
    code, out, _ = run(*asked, "--export", drawing)
    assert (code, "chosen by" in out) == (0, True)
    exported = json.loads(graph.read_text())
    assert exported["cfg"] == {"n_layers": 12, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 64}
    # every sender into every later input: 1 + 5 l senders for layer l's heads (12 inputs), 5 + 5 l for its MLP
    assert len(exported["edges"]) == sum(12 * (1 + 5 * layer) + 5 + 5 * layer for layer in range(12)) + 61
    kept = {name for name, edge in exported["edges"].items() if edge["in_graph"]}
    assert "m11->logits" in kept
    assert 10 < len(kept) <= len(found["edges"])
    assert max(exported["edges"].values(), key=lambda edge: abs(edge["score"]))["score"] > 0
    inside = {name for name, node in exported["nodes"].items() if node["in_graph"]}
    assert inside == {"input", "logits", *(node["node"] for node in found["nodes"] if node["node"] != "embed")}
    places = {"g": "http://graphml.graphdrawing.org/xmlns"}
    written = ET.parse(drawing).getroot().find("g:graph", places)
    assert written is not None
    assert len(written.findall("g:edge", places)) == len(found["edges"])
    assert len(written.findall("g:node", places)) == len(found["nodes"]) + 1


def test_a_given_circuit_is_evaluated_and_shown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"nodes": ["m0@YY", "a6.h1@END", {"node": "m9", "position": "END"}]}))
    code, out, _ = run("--circuit", path, *QUICK)
    assert code == 0
    assert "mini: mine.json circuit, 3 nodes, 0 edges" in out
    assert "complement" in out
    assert "3 random circuits" in out
    code, out, _ = run("--circuit", path, "--evaluate", "clean-heads", *QUICK, "--json")
    assert (code, json.loads(out)["behaviour"]["evaluated_as"]) == (0, "clean-heads")


def test_the_parts_of_one_neuron_sum_to_its_pre_activation(run: Run) -> None:
    code, out, _ = run("--neuron", "L10N7", "--on-prompts", "97", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["neuron"] == "L10N7"
    total = [sum(values) for values in zip(*(part["by_start_year"] for part in found["parts"]), strict=True)]
    assert total == pytest.approx(found["pre_activation"])
    code, out, _ = run("--neuron", "L10N7", "--on-prompts", "97")
    assert code == 0
    assert "components of the pre-activation" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--circuit", "gpt2-small"), "node 2 (a8.h11@END): head 11 is not in this model"),
        (("--circuit", "none.json"), "cannot be read"),
        (("--neuron", "L12N0"), "layer 12 is not in this model"),
        (("--neuron", "L1N256"), "L1N256 does not exist"),
        (("--neuron", "m10"), "invalid neuron"),
        (("--depth", "0"), "depth 0"),
        (("--threshold", "2"), "threshold 2"),
        (("--method", "acdc"), "method 'acdc' is unknown: choose path-patching, eap-ig"),
        (("--choose", "best"), "choice 'best' is unknown: choose top-n, greedy"),
        (("--edges", "0"), "invalid number of edges 0"),
        (("--evaluate", "heads"), "evaluate 'heads' is unknown: choose nodes, clean-heads"),
        (("--export", "circuit.png"), "cannot export to circuit.png: end the name with .json"),
        (("--on-prompts", "20"), "20 prompts asked for: 97 start years"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_two(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_every_token_of_a_prompt_has_a_name() -> None:
    plan = Study().plan
    names = plan.token_names
    assert len(names) == plan.prompts.tokens.shape[1]
    assert names[plan.prompts.year_position] == "YY"
    assert names == ("BOS", "The", "NOUN", "lasted", "from", "the", "year", "XX", "YY", "to", "the", "year", "XX")


def test_every_token_of_another_task_s_prompt_has_its_name() -> None:
    assert " ".join(Study(task="sequence").plan.token_names) == "BOS 15 NOUN , 16 07 , 16 33 , 16 79 , XX YY , XX"
    assert Study(task="sequence", bos=False).plan.token_names == Study(task="sequence").plan.token_names[1:]
    assert Study(task="unordered").plan.token_names.count("NOUN") == 2


def test_the_published_circuit_is_evaluated_in_a_model_with_its_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_random_gpt2(tmp_path / "heads", n_layer=12, n_embd=48, n_head=12)
    command = [
        "neurons",
        "circuit",
        "--model",
        str(folder),
        "--cache-dir",
        str(tmp_path),
        "--nouns",
        "2",
        "--centuries",
        "draw",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "--circuit", "gpt2-small", "--years", "10-20", *QUICK, "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    found = json.loads(capsys.readouterr().out)
    assert len(found["nodes"]) == 18
    assert found["behaviour"]["published"] == {"probability_difference": 0.727, "share": 0.895}
    assert len(found["behaviour"]["left_out"]) == 18
