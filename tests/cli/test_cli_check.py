"""`neurons check`: its JSON, its table, who is judged, and the page that a report makes of it."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from neurons.cache.format import Cache
from neurons.cli.comparisons import print_checks
from neurons.cli.main import main
from neurons.comparison import published
from neurons.comparison.replication import is_judged
from neurons.comparison.results import Checks
from neurons.model.files import Checkpoint
from neurons.model.model import Model
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.report.blocks import Table
from neurons.report.pages.provenance import check_page
from neurons.study.study import Study

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--sample", "60")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mini_cache: Cache) -> Run:
    def call(*arguments: object, command: str = "check") -> tuple[int, str, str]:
        where = () if "--cache-dir" in arguments else ("--cache-dir", mini_cache.path.parent)
        monkeypatch.setattr(sys, "argv", ["neurons", command, *map(str, arguments), *map(str, where)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def test_json_is_as_documented_and_kept_and_on_the_report_s_page(run: Run, mini_cache: Cache) -> None:
    code, out, err = run(*QUICK, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["model"], found["judged"], found["n_prompts"]) == ("mini", False, 60)
    keys = {"name", "measured", "published", "tolerance", "verdict", "source"}
    assert all(keys <= set(one) for one in found["checks"])
    assert {one["verdict"] for one in found["checks"]} == {"none"}
    assert len(found["mlp_shares"]) == 12
    assert {"share", "standard_error", "restored", "restored_standard_error"} < found["mlp_shares"][0].keys()
    kept = Study(cache_dir=mini_cache.path.parent).kept("check")
    assert kept is not None
    assert kept.to_json() == found
    page = check_page(kept)
    (table,) = page.sections[0].blocks
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == [one["name"] for one in found["checks"]]
    assert page.data == found
    assert not list(mini_cache.path.parent.glob("*.check-*")), "blocks are of no use once the result is kept"


def test_the_table_shows_each_line_and_the_sum_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    lines = (
        published.judge_number("probability difference", 0.8167, 0.01, published.PROBABILITY_DIFFERENCE),
        published.judge_bound(
            "01-run", -0.5863, 0.0, 0.01, side="below", published=-0.556, source="replication", claim="negative"
        ),
        published.judge_exact("years by century 10-18", (74, 53), published.YEARS_BY_CENTURY, published.COMPUTED),
    )
    print_checks(Checks("mine", True, 1000, 250, 0, lines, (), ()))
    out = capsys.readouterr().out
    assert "mine: the published measurements, on 1,000 prompts" in out
    assert re.search(r"agrees +probability difference +0.8167 +0.8170 +-0.0003 +0.03", out)
    assert re.search(r"agrees +01-run +-0.5863 +-0.5560 +-0.0303 +0.0300 +below 0 +replication", out)
    assert re.search(r"differs +years by century 10-18 +74, 53 +74, 53, 96, 89", out)
    assert "mine is for the most part as published: 2 of 3 judged measurements agree, 1 differ" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--full", "--sample", "100"), "leave out --sample 100"),
        (("--layers", "10-11"), "the published measurements need layers 8-11"),
        (("--sample", "10"), "greater than or equal to 50"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_two(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def checkpoint(model: Model, tokenizer: Gpt2Tokenizer, **sizes: int) -> Checkpoint:
    """A checkpoint that says it has this shape and tokenizer."""
    made = replace(model.checkpoint, config=replace(model.config, **{**published.SHAPE, **sizes}))
    vars(made)["tokenizer"] = tokenizer
    return made


def test_gpt2_small_s_shape_with_its_tokenizer_is_judged_and_nothing_else(
    mini_model: Model, gpt2_tokenizer: Gpt2Tokenizer
) -> None:
    assert is_judged(checkpoint(mini_model, gpt2_tokenizer))
    assert not is_judged(checkpoint(mini_model, gpt2_tokenizer, n_layers=24))
    assert not is_judged(checkpoint(mini_model, gpt2_tokenizer, d_vocab=50258))
    assert not is_judged(checkpoint(mini_model, mini_model.tokenizer))
    assert not is_judged(mini_model.checkpoint)


@pytest.mark.long
def test_a_random_model_of_gpt2_small_s_shape_is_judged_as_different(
    run: Run, gpt2_shaped: Model, gpt2_tokenizer: Gpt2Tokenizer, tmp_path: Path
) -> None:
    code, out, err = run(
        "--model",
        gpt2_shaped.checkpoint.folder,
        "--nouns",
        "2",
        "--years",
        "41-49",
        *QUICK,
        "--cache-dir",
        tmp_path,
        "--json",
    )
    assert code == 0, err
    found = json.loads(out)
    verdicts = {one["name"]: one["verdict"] for one in found["checks"]}
    assert found["judged"]
    assert verdicts["years to draw from"] == verdicts["tokens of a prompt, places of YY and END"] == "agrees"
    for name in (
        "probability difference",
        "MLPs by share lost, largest first",
        "MLP 9: map's cosine with the triangle",
    ):
        assert verdicts[name] == "differs"
