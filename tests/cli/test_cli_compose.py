"""`neurons cluster` and `neurons compose`: what they print is the library's, from the cache file alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from wide_cache import write_wide_cache

from neurons.attribution.results import Attributed
from neurons.cache.format import Cache
from neurons.clustering.clusters import cluster
from neurons.decomposition.effects import logit_effects
from neurons.decomposition.population import neuron_population
from neurons.ranking.ranking import rank

Run = Callable[..., tuple[int, str, str]]

COMMANDS = ("cluster", "compose")
LIMITS = """
import resource, sys
from neurons.cli.main import main
try:
    main()
finally:
    heavy = sorted({"torch", "transformers", "transformer_lens"} & set(sys.modules))
    print(heavy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""
"""Runs a command, then says which heavy packages it imported and how many MiB it took."""


@pytest.fixture
def folder(mini_cache: Cache, mini_attributed: Attributed) -> Path:
    return mini_cache.path.parent


def alone(command: str, folder: Path) -> tuple[str, str]:
    """The command in a process of its own: standard output, last line of standard error."""
    options = ["--cache-dir", str(folder), "--no-attribution", "--json"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIMITS, command, *options],
        env=os.environ | {"OMP_NUM_THREADS": "2", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr.splitlines()[-1]


def test_cluster_prints_what_the_library_says(
    run: Run, mini_cache: Cache, mini_attributed: Attributed, folder: Path
) -> None:
    code, out, _ = run("cluster", "--cache-dir", folder, "--json")
    effects = logit_effects(mini_cache)
    ranking = rank(effects, attribution=mini_attributed)
    called = (*ranking.boosting_neurons(), *ranking.suppressing_neurons())
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(cluster(neuron_population(effects), called).to_json()))


def test_cluster_json_has_the_promised_keys(run: Run, folder: Path) -> None:
    found = json.loads(run("cluster", "--cache-dir", folder, "--json")[1])
    assert {"model", "clusters", "noise", "unclustered_share", "total_contrast"} <= set(found)
    first = found["clusters"][0]
    assert {"id", "size", "medoid", "share", "stability", "description", "members"} <= set(first)
    assert len(first["members"]) == first["size"]
    assert {"neuron", "membership"} == set(first["members"][0])
    shares = sum(one["share"] for one in found["clusters"])
    assert shares + found["unclustered_share"] == pytest.approx(found["total_contrast"], abs=1e-6)


def test_compose_json_has_the_promised_keys(run: Run, folder: Path) -> None:
    ranked = json.loads(run("rank", "--cache-dir", folder, "--json")[1])["neurons"]
    other = next(one["neuron"] for one in ranked if not one["boosting"] | one["suppressing"])
    code, out, _ = run("compose", "--cache-dir", folder, "--json", "--neuron", other)
    found = json.loads(out)
    assert code == 0
    assert {"model", "singular_values", "basis", "r2_heldout", "by_layer"} <= set(found)
    assert {"neuron", "family", "parameters", "r2_cv", "description"} <= set(found["tuning"][0])
    assert found["tuning"][-1]["neuron"] == other
    assert {"k", "r2", "probability_difference", "cutoff_sharpness"} == set(found["sparse"][0])
    assert found["sparse"][-1] == {"k": 1024, "r2": 1, "probability_difference": 1, "cutoff_sharpness": 1}
    assert {"term", "coefficient", "ci_low", "ci_high", "share"} <= set(found["basis"][0])
    assert [one["layer"] for one in found["by_layer"]] == [8, 9, 10, 11]
    recovered = {"description", "neurons", "probability_difference", "cutoff_sharpness", "ci_low", "ci_high"}
    assert recovered <= set(found["faithfulness"][0])
    assert {"correlation", "slope", "offset", "ci_low", "ci_high", "neurons"} <= set(found["tiling"])
    assert {"neuron", "centre", "width", "edge", "height"} <= set(found["tiling"]["neurons"][0])
    assert {"years", "cutoff_sharpness", "probability_difference"} <= set(found["exchanged"][0])
    assert found["exchanged"][0]["years"] == [0, 2]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_to_cluster_is_said(run: Run, folder: Path, command: str) -> None:
    """One start year: no neuron has a direct effect that is specific to it."""
    code, out, _ = run(command, "--cache-dir", folder, "--years", "50", "--no-attribution", "--json")
    assert code == 0
    assert "no neuron boosts or suppresses: there is nothing to cluster" in json.loads(out)["notes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cluster", "--method", "kmeans"), "'kmeans' is not one of 'hdbscan', 'agglomerative'"),
        (("compose", "--neuron", "neuron 3"), "invalid neuron"),
        (("compose", "--neuron", "L3N1"), "outside the chosen layers"),
        (("compose", "--neuron", "L9N999"), "does not exist"),
        (("cluster", "--cap", "0"), "--cap"),
    ],
)
def test_wrong_input_is_one_line(run: Run, folder: Path, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = run(*arguments, "--cache-dir", folder)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_figures_and_tables_of_clusters_are_written(run: Run, tmp_path: Path, folder: Path) -> None:
    code, out, _ = run("cluster", "--cache-dir", folder, "--figures", tmp_path / "new")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert code == 0
    assert names == {"tuning.svg", "medoids.svg", "dendrogram.svg", "scatter.svg", "shares.svg"}
    assert "total contrast" in out
    assert "adjusted Rand index" in out


def test_figures_and_tables_of_the_composition_are_written(run: Run, tmp_path: Path, folder: Path) -> None:
    code, out, _ = run("compose", "--cache-dir", folder, "--figures", tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert code == 0
    shown = {"tiling", "law", "exchange", "faithfulness", "sparse", "terms", "tuning"}
    assert names == {f"{name}.svg" for name in shown}
    for words in ("rank correlation", "two levels", "Exchanged tuning curves", "Sums of the first", "later_slope"):
        assert words in out


def test_a_folder_for_figures_that_is_a_file_is_refused(run: Run, tmp_path: Path, folder: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    code, _, err = run("cluster", "--cache-dir", folder, "--figures", taken)
    assert code == 1
    assert "cannot be made" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_need_the_cache_only_and_repeat_bit_for_bit(tmp_path: Path, command: str) -> None:
    """No torch, and the same JSON from two processes."""
    write_wide_cache(tmp_path, d_mlp=128)
    one, about = alone(command, tmp_path)
    two, _ = alone(command, tmp_path)
    assert about.startswith("[] ")
    assert one == two


def test_compose_follows_routes_when_asked(run: Run, mini_cache: Cache, mini_attributed: Attributed) -> None:
    options = ("--cache-dir", mini_cache.path.parent, "--routes", "--json")
    code, out, _ = run("compose", *options)
    assert code == 0
    found = json.loads(out)["routes"]
    shares = mini_attributed.share("probability_difference")
    assert len(found["share"]) == mini_attributed.recovery("probability_difference").fewest(0.9)
    for one in found["share"]:
        assert one["total"] == pytest.approx(shares.share_of(one["neuron"]), abs=1e-6)
    assert found["attention"] == pytest.approx(0, abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_gpt2_small_takes_less_than_3_gb(tmp_path: Path, command: str) -> None:
    """12,288 neurons, 20 nouns."""
    write_wide_cache(tmp_path)
    _, about = alone(command, tmp_path)
    assert int(about.split()[-1]) < 3 * 1024
