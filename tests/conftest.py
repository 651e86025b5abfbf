"""What all tests share: annotations checked while they run, no network, and models that are written once.

Fixtures load a checkpoint once a session. Random ones and the planted ones are written to a temporary
folder; `mini_model` is the bundled one.
"""

from guards import attempts

# isort: split
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from gpt2_files import write_gpt2_tokenizer
from planted import Planted, write_kinds, write_planted
from random_gpt2 import MINI, write_random_gpt2

from neurons.attribution.results import Attributed
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.cli.main import main
from neurons.model.checkpoint import load_model
from neurons.model.model import Model
from neurons.model.tokenizer import Gpt2Tokenizer, load_tokenizer
from neurons.study.study import Study
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans

LATE = (8, 9, 10, 11)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Fail a test whose network access was refused, even where the code under test swallowed the error."""
    attempts.clear()
    yield
    assert not attempts, f"tests run offline, but this one tried to reach {attempts}"


@dataclass(frozen=True)
class PlantedCase:
    """A planted checkpoint, the truth about it, and the cache of its default prompts in layers 8-11."""

    truth: Planted
    model: Model
    prompts: PromptSet
    cache: Cache


@pytest.fixture(scope="session")
def mini_tokenizer() -> Gpt2Tokenizer:
    return load_tokenizer(MINI)


@pytest.fixture(scope="session")
def gpt2_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's own vocab.json and merges.txt."""
    return write_gpt2_tokenizer(tmp_path_factory.mktemp("gpt2-tokenizer"))


@pytest.fixture(scope="session")
def gpt2_tokenizer(gpt2_tokenizer_folder: Path) -> Gpt2Tokenizer:
    return load_tokenizer(gpt2_tokenizer_folder)


@pytest.fixture(scope="session")
def mini_model() -> Model:
    """The bundled, trained model."""
    return load_model("mini")


@pytest.fixture(scope="session")
def random_small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights in mini's shape: 12 layers, width 64, 4 heads, 256 neurons a layer."""
    folder = tmp_path_factory.mktemp("random") / "small"
    return load_model(write_random_gpt2(folder, n_layer=12, n_embd=64, n_head=4))


@pytest.fixture(scope="session")
def gpt2_shaped(gpt2_tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights in GPT-2 small's shape: 12 layers, width 768, 12 heads, 50,257 tokens; half a gigabyte."""
    folder = tmp_path_factory.mktemp("random") / "gpt2-shaped"
    sizes = {"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
    return load_model(write_random_gpt2(folder, tokenizer=gpt2_tokenizer_folder, **sizes))


@pytest.fixture(scope="session")
def mini_prompts(mini_tokenizer: Gpt2Tokenizer) -> PromptSet:
    """The default prompts: three nouns, each with every start year of centuries 11-18."""
    return year_spans(mini_tokenizer)


@pytest.fixture(scope="session")
def mini_cache(mini_model: Model, mini_prompts: PromptSet, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return cache_activations(mini_model, mini_prompts, cache_dir=tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="session")
def mini_attributed(mini_cache: Cache) -> Attributed:
    """The shares of mini's neurons, kept beside `mini_cache`: commands on it need no model."""
    return Study(cache_dir=mini_cache.path.parent).attributed()


@pytest.fixture(scope="session")
def random_cache(random_small: Model, mini_prompts: PromptSet, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return cache_activations(random_small, mini_prompts, cache_dir=tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def planted_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], PlantedCase]:
    """`planted_case(seed)`: written, loaded and run once for each seed."""

    @cache
    def case(seed: int) -> PlantedCase:
        folder = tmp_path_factory.mktemp("planted")
        truth = write_planted(folder / f"planted-{seed}", seed=seed)
        model = load_model(truth.folder)
        prompts = year_spans(model.tokenizer)
        return PlantedCase(truth, model, prompts, cache_activations(model, prompts, layers=LATE, cache_dir=folder))

    return case


@pytest.fixture(scope="session")
def kinds_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], PlantedCase]:
    """`kinds_case(seed)`: as `planted_case`, with twelve neurons of each of six kinds."""

    @cache
    def case(seed: int) -> PlantedCase:
        folder = tmp_path_factory.mktemp("kinds")
        truth = write_kinds(folder / f"kinds-{seed}", seed=seed)
        model = load_model(truth.folder)
        prompts = year_spans(model.tokenizer)
        return PlantedCase(truth, model, prompts, cache_activations(model, prompts, layers=LATE, cache_dir=folder))

    return case


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `neurons` with these arguments: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["neurons", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call
