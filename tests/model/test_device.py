"""The same code on another device: numbers as on the CPU, results on the CPU, and one line where a device is not there.

There is no GPU here: `pretend_gpu` refuses what one would refuse.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pretend_gpu import pretend

import neurons
from neurons.attribution.patching import attribution_patching
from neurons.cache.format import Cache
from neurons.circuit.search_results import Search
from neurons.circuit.study import study_circuit
from neurons.cli.main import main
from neurons.intervention.components import component_effects
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.curves import published_curve
from neurons.intervention.groups import MEASURES, group_mask, group_measures, logit_changes
from neurons.model.checkpoint import load_model
from neurons.model.device import check_against, find_device, on_threads
from neurons.model.model import Model
from neurons.task.intervention import Intervention
from neurons.types import Ablation, CacheError, Device, DeviceError, Effect, NeuronId

YEARS = range(10, 15)
NEURONS = (NeuronId(8, 3), NeuronId(10, 18), NeuronId(11, 7))


@pytest.fixture(params=[True, False], ids=["as cuda", "as mps: no float64"])
def gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    with pretend(has_double=request.param):
        yield


@pytest.fixture(scope="module")
def small(mini_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The prompts of one noun."""
    prompts = neurons.year_spans(mini_model.tokenizer, nouns=1, centuries="draw")
    return neurons.cache_activations(mini_model, prompts, cache_dir=tmp_path_factory.mktemp("one-noun"))


@pytest.fixture
def on_cpu(mini_model: Model, small: Cache) -> AblationContext:
    return ablation_context(mini_model, small, years=YEARS)


@pytest.fixture
def on_gpu(gpu: None, mini_model: Model, small: Cache) -> AblationContext:
    return ablation_context(mini_model.to(torch.device("meta")), small, years=YEARS)


def assert_same(found: Any, expected: Any) -> None:
    """Arrays on the CPU, equal to the last bits: the stand-in computes as the CPU does, in another order at most."""
    assert not isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# --- the stand-in itself ---------------------------------------------------------------------------


def test_the_stand_in_refuses_a_tensor_on_the_cpu_beside_one_on_it(gpu: None) -> None:
    with pytest.raises(RuntimeError, match="and on the CPU"):
        torch.ones(3, device="meta") + torch.ones(3)


def test_the_stand_in_gives_no_numbers_without_a_copy(gpu: None) -> None:
    with pytest.raises(TypeError, match="numpy"):
        torch.ones(3, device="meta").numpy()
    assert torch.ones(3, device="meta").numpy(force=True).tolist() == [1, 1, 1]


# --- the same numbers on a device ------------------------------------------------------------------


def test_a_cache_built_on_a_device_holds_the_cpu_s_numbers(gpu: None, small: Cache, tmp_path: Path) -> None:
    model = load_model("mini", device="cuda")
    assert model.device.type == "meta"
    built = neurons.cache_activations(
        model, neurons.year_spans(model.tokenizer, nouns=1, centuries="draw"), cache_dir=tmp_path
    )
    assert built.path.name == small.path.name
    assert_same(built.post(9), small.post(9))
    assert_same(built.year_logits, small.year_logits)
    assert_same(built.logsumexp, small.logsumexp)
    assert_same(built.readout(9), small.readout(9))
    assert_same(built.gram, small.gram)


@pytest.mark.parametrize("effect", get_args(Effect))
def test_effects_of_neurons_are_the_same_on_a_device(
    on_cpu: AblationContext, on_gpu: AblationContext, effect: Effect
) -> None:
    for measure in ("contrast",) if effect == "frozen" else MEASURES:
        found, expected = (
            neurons.neuron_effects(ctx, NEURONS, Intervention(measure=measure, effect=effect), keep=False).effect
            for ctx in (on_gpu, on_cpu)
        )
        assert_same(found, expected)


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
def test_changes_of_the_logits_are_the_same_on_a_device(
    on_cpu: AblationContext, on_gpu: AblationContext, ablation: Any
) -> None:
    block, how = slice(0, len(on_cpu)), Intervention(ablation=ablation)
    assert_same(logit_changes(on_gpu, block, NEURONS, how), logit_changes(on_cpu, block, NEURONS, how))


@pytest.mark.parametrize("effect", ["total", "direct", "frozen"])
def test_effects_of_groups_are_the_same_on_a_device(
    on_cpu: AblationContext, on_gpu: AblationContext, effect: Effect
) -> None:
    group = group_mask(on_cpu.cache.layers, on_cpu.cache.d_mlp, NEURONS)[None]
    found, expected = (group_measures(ctx, group, ablation="resample", effect=effect) for ctx in (on_gpu, on_cpu))
    for measure, values in expected.items():
        assert_same(found[measure], values)


@pytest.mark.long
@pytest.mark.parametrize("ablation", get_args(Ablation))
def test_components_and_the_published_curve_are_the_same_on_a_device(
    on_cpu: AblationContext, on_gpu: AblationContext, ablation: Ablation
) -> None:
    found, expected = (component_effects(ctx, ablation=ablation) for ctx in (on_gpu, on_cpu))
    for measure, values in expected.effect.items():
        assert_same(found.effect[measure], values)
    assert_same(published_curve(on_gpu).probability_difference, published_curve(on_cpu).probability_difference)


@pytest.mark.parametrize("measure", MEASURES)
def test_attribution_patching_is_the_same_on_a_device(
    on_cpu: AblationContext, on_gpu: AblationContext, measure: Any
) -> None:
    how = Intervention(measure=measure)
    assert_same(attribution_patching(on_gpu, how), attribution_patching(on_cpu, how))


@pytest.mark.long
def test_the_circuit_is_the_same_on_a_device(on_cpu: AblationContext, on_gpu: AblationContext) -> None:
    found, expected = (
        study_circuit(ctx, search=Search(threshold=0.02), neurons=NEURONS[:1], prompts=5, n_random=1, keep=False)
        for ctx in (on_gpu, on_cpu)
    )
    assert found.evaluation.circuit.nodes == expected.evaluation.circuit.nodes
    assert_same(found.evaluation.random, expected.evaluation.random)
    assert_same(found.inputs[0].parts, expected.inputs[0].parts)
    for mine, reference in zip(found.roles, expected.roles, strict=True):
        assert mine.shape == reference.shape


# --- threads ---------------------------------------------------------------------------------------


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_small_model_s_tasks_run_on_threads_of_their_own_in_order(mini_model: Model, two_threads: None) -> None:
    def twice(task: int) -> Iterator[tuple[int, int, bool, bool, str]]:
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        for _ in range(2):
            yield task, torch.get_num_threads(), *modes, threading.current_thread().name

    with torch.inference_mode():
        found = list(on_threads(mini_model, twice, range(9)))
    assert [one[:4] for one in found] == [(task, 1, True, False) for task in range(9) for _ in range(2)]
    assert threading.main_thread().name not in {name for *_, name in found}
    assert torch.get_num_threads() == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2], "threads that start later have one"


def test_what_a_task_on_a_thread_raises_is_raised_and_the_rest_is_left(mini_model: Model, two_threads: None) -> None:
    begun: list[int] = []

    def failing(task: int) -> Iterator[int]:
        begun.append(task)
        if task == 1:
            raise CacheError("full")
        yield task

    with pytest.raises(CacheError, match="full"):
        list(on_threads(mini_model, failing, range(100)))
    assert len(begun) < 10
    assert torch.get_num_threads() == 2


def test_effects_and_shares_are_the_same_bytes_on_one_thread_and_on_two(mini_model: Model, mini_cache: Cache) -> None:
    ctx = ablation_context(mini_model, mini_cache, years=range(10, 31))

    assert len(ctx.blocks()) > 1

    def measured(threads: int) -> list[np.ndarray]:
        torch.set_num_threads(threads)
        sets = np.stack([np.zeros((4, 256), bool), np.ones((4, 256), bool)])
        return [
            group_measures(ctx, sets, ablation="random-year")["probability_difference"],
            component_effects(ctx).effect["contrast"],
            neurons.attribute(ctx, steps=2)["probability_difference"].by_century,
            neurons.neuron_effects(ctx, ["L9N43", "L10N18"], keep=False).effect,
        ]

    before = torch.get_num_threads()
    try:
        for one, two in zip(measured(1), measured(2), strict=True):
            np.testing.assert_array_equal(one, two)
    finally:
        torch.set_num_threads(before)


# --- a device that is not there, or wrong ----------------------------------------------------------


@pytest.mark.parametrize(("name", "gpu"), [("cuda", "NVIDIA GPU"), ("mps", "Apple GPU")])
def test_a_device_that_is_not_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, name: Device, gpu: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=rf"device {name} is not available: .* finds no {gpu} .* run on the CPU"):
        load_model("mini", device=name)


def test_a_device_that_is_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("cuda") == torch.device("cuda")
    assert find_device("cpu") == torch.device("cpu")


def test_mps_is_trusted_where_its_year_logits_are_the_cpu_s(gpu: None, mini_model: Model) -> None:
    assert load_model("mini", device="mps").device.type == "meta"


def wrong(model: Model, by: float) -> Model:
    """What a device would answer that is wrong somewhere, by this share of the weights."""
    block = model.blocks[-1]
    blocks = (*model.blocks[:-1], replace(block, W_out=block.W_out * (1 + by)))
    return replace(model, blocks=blocks)


def test_a_device_with_wrong_numbers_is_refused_with_how_wrong_they_are(mini_model: Model) -> None:
    with pytest.raises(DeviceError, match=r"gives wrong numbers here: .* by [\d.e-]+ of the largest"):
        check_against(mini_model, wrong(mini_model, 0.01))


def test_a_device_that_gives_no_numbers_is_refused(mini_model: Model) -> None:
    with pytest.raises(DeviceError, match="by nan"):
        check_against(mini_model, wrong(mini_model, float("nan")))


def test_float32_noise_is_not_distrusted(mini_model: Model) -> None:
    check_against(mini_model, wrong(mini_model, 1e-6))
    check_against(mini_model.to(torch.float64), mini_model)


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(sys, "argv", ["neurons", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return call


def test_without_a_gpu_the_command_ends_with_one_line(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, err = run("cache", "build", "--device", "cuda", "--cache-dir", tmp_path / "cache")
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("neurons: device cuda is not available")
    assert not (tmp_path / "cache").exists()


def test_an_unknown_device_is_wrong_usage(run: Callable[..., tuple[int, str]]) -> None:
    code, err = run("rank", "--device", "tpu")
    assert (code, err) == (
        2,
        "neurons: Invalid value for '--device': 'tpu' is not one of 'cpu', 'cuda', 'mps' (see neurons rank --help)\n",
    )


def test_other_processes_compute_on_the_cpu_alone(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, err = run("cache", "build", "--device", "cuda", "--jobs", 2, "--cache-dir", tmp_path)
    assert code == 2
    assert "jobs and scheduler compute on the CPU" in err
