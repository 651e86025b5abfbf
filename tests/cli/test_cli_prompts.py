"""Prompts of the user's own through the commands: other lengths and wordings, against what each prompt gives alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from random_gpt2 import write_random_gpt2

import neurons
from neurons.intervention.context import ablation_context
from neurons.intervention.exact import neuron_effects
from neurons.task.intervention import Intervention
from neurons.task.prompt_set import PAD

Run = Callable[..., tuple[int, str, str]]
WORDINGS = (
    "The {} lasted from the year {}{:02d} to the year {}",
    " The {} and the siege lasted from {}{:02d} to {}",
    "From {1}{2:02d} to {3}",
)
YEARS = (12, 25, 37, 44, 56, 63, 71, 88)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gpt2(tmp_path_factory.mktemp("own") / "small", n_layer=3)


@pytest.fixture(autouse=True)
def beside_the_model(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder.parent)


def rows(year_of: Callable[[int, int], int] = lambda wording, place: YEARS[place]) -> pd.DataFrame:
    """Three wordings in three centuries, at eight start years."""
    made = []
    for wording, text in enumerate(WORDINGS):
        for century in (15, 16, 17):
            for place in range(len(YEARS)):
                year = year_of(wording, place)
                clean, corrupted = (text.format("war", century, y, century) for y in (year, 1))
                made.append((clean, corrupted, f"{year:02d}", f"row {len(made)}"))
    return pd.DataFrame(made, columns=["clean", "corrupted", "label", "source"])


@pytest.fixture
def file(folder: Path) -> Path:
    path = folder.parent / "mine.csv"
    rows().to_csv(path, index=False)
    return path


def test_behaviour_is_that_of_a_plain_forward_of_each_prompt_alone(run: Run, file: Path, folder: Path) -> None:
    from transformers import GPT2LMHeadModel

    code, out, _ = run("behaviour", "--model", folder, "--prompts", file, "--json")
    assert code == 0
    model = neurons.load_model(folder)
    hf = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").double().eval()
    expected = []
    for clean, year in rows()[["clean", "label"]].to_numpy().tolist():
        ids = torch.tensor([[1060, *model.tokenizer.encode(clean)]])
        with torch.no_grad():
            p = hf(ids).logits[0, -1].softmax(-1)
        years = [model.tokenizer.encode(f"{y:02d}")[0] for y in range(100)]
        expected.append(float(p[years].numpy() @ np.where(np.arange(100) > int(year), 1, -1)))
    found = json.loads(out)["probability_difference"]["mean"]
    assert found == pytest.approx(np.mean(expected), abs=1e-7)


def test_an_ablated_neuron_changes_a_padded_prompt_as_it_changes_it_alone(folder: Path, tmp_path: Path) -> None:
    """Each wording has start years of its own, so that its effects can be told apart."""
    model = neurons.load_model(folder)
    table = rows(lambda wording, place: YEARS[place] + wording)
    both = [table, *(table[24 * i : 24 * (i + 1)] for i in range(3))]
    effects = []
    for some in both:
        prompts = neurons.read_prompts(some).align(model.tokenizer)
        assert (prompts.tokens == PAD).any() == (some is table)
        cache = neurons.cache_activations(model, prompts, layers=(0, 1), cache_dir=tmp_path)
        ctx = ablation_context(model, cache)
        found = neuron_effects(ctx, ["L0N3", "L1N7"], Intervention("resample"), keep=False)
        effects.append(dict(zip(found.start_years, found.by_start_year.T.tolist(), strict=True)))
    alone = {year: value for some in effects[1:] for year, value in some.items()}
    assert effects[0].keys() == alone.keys()
    for year, value in effects[0].items():
        assert value == pytest.approx(alone[year], abs=1e-5)


@pytest.mark.parametrize(
    "command", ["rank", "rank --year 37 --no-attribution", "causal --exact 3", "cluster", "compose", "report --top 2"]
)
def test_commands_run_on_prompts_of_several_lengths(run: Run, file: Path, folder: Path, command: str) -> None:
    code, _, err = run(*command.split(), "--model", folder, "--prompts", file)
    assert code == 0, err
    assert "start years without a prompt are left out: 02-11, 13-24" in err


def test_the_report_names_prompts_and_rows_left_out(run: Run, file: Path, folder: Path) -> None:
    table = rows()
    table.loc[4, "corrupted"] = table.loc[4, "corrupted"].replace("lasted", "lasted on")
    table.to_csv(file, index=False)
    code, _, err = run("report", "--model", folder, "--prompts", file)
    assert (code, "line 6: clean has 13 tokens and corrupted 15 (1 of 72 rows)" in err) == (2, True)
    options = ("--skip", "--top", 1, "--no-attribution", "--report-dir", "skipped")
    code, _, err = run("report", "--model", folder, "--prompts", file, *options)
    assert code == 0, err
    assert "rows of the prompts left out: 1 (line 6" in err
    (report,) = (file.parent / "skipped").glob("small-prompts-*/report.json")
    numbers = json.loads(report.read_text())
    assert any("line 6" in note for note in numbers["provenance"]["notes"])
    assert not any("nearest" in note for note in numbers["provenance"]["notes"])
    assert numbers["prompts"]["n_prompts"] == 71
    assert "skip" in numbers["command"]


def test_the_circuit_needs_prompts_of_one_layout(run: Run, file: Path, folder: Path) -> None:
    code, _, err = run("circuit", "--model", folder, "--prompts", file, "--no-attribution")
    assert code == 2
    assert "the circuit follows paths from the position of YY" in err


def test_approximations_need_prompts_of_one_length(run: Run, file: Path, folder: Path) -> None:
    code, _, err = run("rank", "--approximations", "--model", folder, "--prompts", file)
    assert (code, "needs prompts of one length" in err) == (2, True)


def test_prompts_that_have_no_other_start_year_in_their_words_are_counted(folder: Path) -> None:
    table = rows()
    alone = table.drop(index=range(1, 8)).reset_index(drop=True)  # the first wording and century: one start year
    study = neurons.Study(folder, prompts=neurons.read_prompts(alone))
    assert study.plan.notes == (
        "random other start year: 1 of 65 prompts have none in their words and century and take the nearest",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--skip",), "--skip leaves out rows of --prompts"),
        (("--prompts", "mine.csv", "--nouns", "5"), "leave out --nouns"),
        (("--prompts", "mine.csv", "--task", "price-range"), "leave out --task"),
        (("--prompts", "absent.csv"), "prompts 'absent.csv' cannot be read: No such file"),
        (("--prompts", "mine.csv", "--years", "13"), "start year 13 has no prompt"),
    ],
)
def test_options_that_contradict_prompts_are_refused(
    run: Run, file: Path, folder: Path, options: tuple[str, ...], message: str
) -> None:
    code, out, err = run("rank", "--model", folder, *options)
    assert (code, out) == (2, "")
    assert message in err


def test_the_prompts_command_writes_what_prompts_reads(run: Run, folder: Path) -> None:
    code, out, _ = run("prompts", "--model", folder, "--nouns", 2, "--centuries", 17)
    assert code == 0
    code, _, _ = run("prompts", "--model", folder, "--nouns", 2, "--centuries", 17, "--output", "some.jsonl")
    assert code == 0
    (folder.parent / "some.csv").write_text(out)
    paths = [run("cache", "path", "--model", folder, "--prompts", name)[1] for name in ("some.csv", "some.jsonl")]
    expected = run("cache", "path", "--model", folder, "--nouns", 2, "--centuries", 17)[1]
    assert paths == [expected, expected]
    assert json.loads(run("prompts", "--model", folder, "--nouns", 2, "--centuries", 17, "--json")[1])[0]["label"] == 1
