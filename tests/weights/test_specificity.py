"""Specificity on a text: against plain arithmetic on the whole text, a planted word that is caught, and bad files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PlantedCase
from sklearn.metrics import roc_auc_score

from neurons.cache.format import Cache
from neurons.model.model import Model, normalise
from neurons.model.rerun import trace_from
from neurons.study.study import Study
from neurons.types import InputError, NeuronId
from neurons.weights import reading, specificity
from neurons.weights.contexts import activations_on
from neurons.weights.reading import TextFile
from neurons.weights.specificity_results import Specificity

YEARS = "The war lasted from the year 1732 to the year 1745. "
WORDS = "The house of the man was old, and the price of it was 12 or 300. "
SOME = (NeuronId(9, 43), NeuronId(11, 165), NeuronId(8, 191))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text((YEARS + WORDS) * 30, encoding="utf-8")
    return path


def read(model: Model, cache: Cache, path: Path, neurons: tuple[NeuronId, ...]) -> Specificity:
    years = tuple(range(2, 99))
    return specificity.specificity(model, cache, path, neurons, neurons, start_years=years)


# --- the text --------------------------------------------------------------------------------------


def test_windows_hold_the_tokens_of_the_whole_text_in_order(mini_model: Model, text: Path) -> None:
    """Read in pieces of 97 bytes, with letters of several bytes, it is what the tokenizer makes of it at once."""
    whole = (YEARS + "Ein schöner Tag – déjà vu. ") * 40
    text.write_text(whole, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurons.weights.files.PIECE", 97)
        found = [row for batch in TextFile(text, mini_model).windows() for row in batch]
    assert {row[0] for row in found} == {mini_model.tokenizer.bos_token_id}
    assert all(len(row) <= mini_model.config.n_ctx for row in found)
    assert np.concatenate([row[1:] for row in found]).tolist() == mini_model.tokenizer.encode(whole)


@pytest.mark.parametrize(
    ("words", "on_years"),
    [("in 1745 or", "1745"), ("in 12 or 300 or 99", ""), ("from 1999 to 2100,", "1999"), ("12345 and 3 1850", "1850")],
)
def test_years_are_numbers_from_1000_to_2099(mini_model: Model, words: str, on_years: str) -> None:
    file, tokens = TextFile(Path("x"), mini_model), np.array([mini_model.tokenizer.encode(words)])
    marked = file.on_years(tokens)[0]
    assert "".join(file.texts[token] for token in tokens[0][marked]).strip() == on_years


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"The war. ", "tokens: give a UTF-8 text of at least 200"),
        (b"\xff\xfe\x00w" * 300, "is not UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_is_one_clear_error(
    mini_model: Model, mini_cache: Cache, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(mini_model, mini_cache, path, SOME)
    with pytest.raises(InputError, match="cannot be read"):
        read(mini_model, mini_cache, tmp_path / "none.txt", SOME)


# --- against plain arithmetic ----------------------------------------------------------------------


def test_numbers_equal_those_of_the_whole_text_at_once(mini_model: Model, mini_cache: Cache, text: Path) -> None:
    file, found = TextFile(text, mini_model), read(mini_model, mini_cache, text, SOME)
    windows = [row for batch in file.windows() for row in batch]
    is_year = np.concatenate([file.on_years(row[None])[0][1:] for row in windows])
    assert (found.tokens, found.years) == (len(is_year), is_year.sum())
    for one in found.neurons:
        strength = one.sign * np.concatenate(
            [activations_on(mini_model, row[None], [one.neuron])[0, 0, 1:] for row in windows]
        )
        prompts = specificity._watch(mini_cache, one.neuron, tuple(range(2, 99))).prompts
        other = strength[~is_year]
        labels = np.repeat([1, 0], [len(prompts), len(other)])
        assert one.auc == pytest.approx(roc_auc_score(labels, np.concatenate([prompts, other])), abs=1e-4)
        pooled = np.concatenate([prompts, strength])
        strongest = np.argsort(-pooled, kind="stable")[:100]
        of_years = np.concatenate([np.ones(len(prompts)), is_year])
        assert one.on_years == pytest.approx(of_years[strongest].mean(), abs=0.011)
        assert one.snippets[0].activation.max() == pytest.approx(strength.max(), abs=1e-4) or one.sign < 0


def test_losses_equal_the_hugging_face_model_s_with_means_put_in_by_hooks(
    mini_model: Model, mini_cache: Cache, text: Path
) -> None:
    from transformers import GPT2LMHeadModel

    hf = GPT2LMHeadModel.from_pretrained(mini_model.checkpoint.folder, attn_implementation="eager").eval()
    found = read(mini_model, mini_cache, text, SOME).losses
    file = TextFile(text, mini_model)
    windows = [torch.as_tensor(row).long() for batch in file.windows() for row in batch]
    posts = {neuron: torch.cat([torch.as_tensor(activations_on(mini_model, row[None].numpy(), [neuron])[0, 0, 1:])
                                for row in windows]) for neuron in SOME}  # fmt: skip

    def hold(neuron: NeuronId) -> Callable[..., torch.Tensor]:
        def hook(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
            out = out.clone()
            out[..., neuron.index] = posts[neuron].mean()
            return out

        return hook

    for ablated in (False, True):
        if ablated:
            for neuron in SOME:
                hf.transformer.h[neuron.layer].mlp.act.register_forward_hook(hold(neuron))
        losses, years = [], []
        for row in windows:
            with torch.no_grad():
                logits = hf(row[None]).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, row[1:], reduction="none"))
            years.append(torch.as_tensor(file.on_years(row[None].numpy())[0][1:]))
        loss, on_year = torch.cat(losses), torch.cat(years)
        expected = (loss[~on_year].mean().item(), loss[on_year].mean().item())
        held = (found.text_ablated, found.years_ablated) if ablated else (found.text, found.years)
        assert held == pytest.approx(expected, abs=1e-4)


def test_memory_holds_one_batch_and_a_longer_text_repeats_its_numbers(
    mini_model: Model, mini_cache: Cache, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of two windows instead of sixteen give the same."""
    once = read(mini_model, mini_cache, text, SOME)
    monkeypatch.setattr(reading, "AT_ONCE", 2)
    assert max(len(batch) for batch in TextFile(text, mini_model).windows()) == 2
    again = read(mini_model, mini_cache, text, SOME)
    assert [one.auc for one in again.neurons] == pytest.approx([one.auc for one in once.neurons], abs=1e-6)
    assert again.losses.text == pytest.approx(once.losses.text, abs=1e-5)


# --- planted ---------------------------------------------------------------------------------------


def also_on(model: Model, neuron: NeuronId, word: str, path: Path) -> Model:
    """The model with this neuron made to fire on a word as it does on its years."""
    (token,) = model.tokenizer.encode(word)
    tokens = next(iter(TextFile(path, model).windows()))
    block = model.blocks[neuron.layer]
    mid = trace_from(model, tokens, first=0).mid[neuron.layer].clone()
    normed = normalise(mid, block.ln_2, model.config.layer_norm_eps)
    there = torch.as_tensor(tokens == token)
    mean = normed[~there].mean(0)
    direction = normed[there].mean(0) - mean
    gain = 30 / direction.square().sum()
    W_in, b_in = block.W_in.clone(), block.b_in.clone()
    W_in[:, neuron.index] += gain * direction
    b_in[neuron.index] -= gain * (direction @ mean)
    blocks = list(model.blocks)
    blocks[neuron.layer] = replace(block, W_in=W_in, b_in=b_in)
    return replace(model, blocks=tuple(blocks))


def test_a_neuron_that_also_fires_on_a_word_is_caught(planted_case: Callable[[int], PlantedCase], text: Path) -> None:
    case = planted_case(0)
    neuron, other = case.truth.roles["greater"][10:12]
    before = read(case.model, case.cache, text, (neuron, other))
    after = read(also_on(case.model, neuron, " the", text), case.cache, text, (neuron, other))
    assert before.of(neuron).specific
    assert not after.of(neuron).specific
    assert after.of(neuron).auc < before.of(neuron).auc
    assert " the" in after.of(neuron).snippets[0].texts
    assert not after.of(neuron).snippets[0].on_year
    assert after.of(other).on_years == before.of(other).on_years


# --- study, page, results --------------------------------------------------------------------------


def test_the_study_keeps_it_and_the_page_says_it(
    mini_cache: Cache, mini_attributed: object, text: Path, tmp_path: Path
) -> None:
    study = Study(cache_dir=mini_cache.path.parent)
    found = study.specificity(text, SOME)
    assert study.specificity(text, SOME[:1]) is found
    assert found.losses.neurons == len(study.sufficient_set())
    json.dumps(found.to_json(), allow_nan=False)
    assert found.to_frame()["neuron"].tolist() == list(map(str, SOME))
    page = study.neuron(SOME[0])["specificity"]
    assert page["on_years"] == found.of(SOME[0]).on_years
    assert page["file"] == "text.txt"
    with pytest.raises(InputError, match="was not looked at"):
        found.of("L10N0")


def test_a_neuron_that_fires_on_much_else_has_it_in_its_lead() -> None:
    from neurons.report.pages.sections.specificity import lead_with, specificity_sections

    about = {"file": "t.txt", "tokens": 900, "years": 0,
             "loss": {"neurons": 3, "rise": 0.01, "rise_on_years": None}}  # fmt: skip
    record = {"specific": False, "on_years": 0.2, "auc": 0.6, "prompts": 40, "snippets": []}
    numbers = {"description": "Boosting.", "specificity": record | about}
    lead = lead_with(numbers, "Share 0.1.")
    assert lead.startswith("Boosting. Not specific: it fires on much else, only 20%")
    assert lead.endswith("Share 0.1.")
    (section,) = specificity_sections(numbers)
    assert section.title == "Specificity on a text"
    assert lead_with({"description": "Boosting.", "specificity": None}, "") == "Boosting."
    assert specificity_sections({"specificity": None}) == ()
