"""A planted tiling as a study, by seed: what descriptions of sets and of single neurons are tested on."""

from collections.abc import Callable
from functools import cache

import pytest
from planted import Planted
from planted_tiling import CENTURIES, write_tiling

from neurons.study.study import Study


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Planted, Study]]:
    @cache
    def case(seed: int) -> tuple[Planted, Study]:
        folder = tmp_path_factory.mktemp("tiling")
        truth = write_tiling(folder / "model", seed=seed)
        return truth, Study(str(truth.folder), nouns=1, centuries=CENTURIES, cache_dir=folder)

    return case
