import numpy as np
import pytest

from neurons.model.forward import run
from neurons.model.model import Model
from neurons.task.behaviour import (
    by_start_year,
    contrast,
    cutoff_sharpness,
    logit_step,
    measure,
    probability_difference,
    year_probabilities,
)
from neurons.task.prompt_set import PromptSet

RNG = np.random.default_rng(0)
START = RNG.integers(1, 99, 40)
LOGITS = RNG.normal(size=(40, 100))
LOGSUMEXP = LOGITS.max(1) + 5
PROBABILITIES = year_probabilities(LOGITS, LOGSUMEXP)


def test_probabilities_come_from_the_softmax_over_the_full_vocabulary(
    random_small: Model, mini_prompts: PromptSet
) -> None:
    import torch

    tokens = mini_prompts.tokens[:3]
    end = run(random_small, tokens, shared=0, layers=[], year_token_ids=mini_prompts.year_token_ids)
    logits = random_small.bridge(torch.as_tensor(tokens, dtype=torch.long))[:, -1]
    expected = logits.softmax(-1)[:, mini_prompts.year_token_ids].detach()
    found = year_probabilities(end.year_logits.numpy(), end.logsumexp.numpy())
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_probability_difference_equals_a_direct_loop() -> None:
    for row, start in enumerate(START):
        up = sum(PROBABILITIES[row, y] for y in range(100) if y > start)
        down = sum(PROBABILITIES[row, y] for y in range(100) if y <= start)
        assert probability_difference(PROBABILITIES, START)[row] == pytest.approx(up - down, rel=1e-12)


def test_cutoff_sharpness_equals_a_direct_loop() -> None:
    for row, start in enumerate(START):
        step = PROBABILITIES[row, start + 1] - PROBABILITIES[row, start - 1]
        assert cutoff_sharpness(PROBABILITIES, START)[row] == step


def test_the_contrast_equals_a_direct_loop() -> None:
    for row, start in enumerate(START):
        expected = LOGITS[row, start + 1 :].mean() - LOGITS[row, : start + 1].mean()
        assert contrast(LOGITS, START)[row] == pytest.approx(expected, rel=1e-12)


def test_the_measures_read_small_integers_without_overflow() -> None:
    years = np.array([98], dtype=np.int8)
    step = PROBABILITIES[:1, 99] - PROBABILITIES[:1, 97]
    assert measure(PROBABILITIES[:1], years).cutoff_sharpness == step


def test_a_model_that_knows_the_answer_has_a_probability_difference_of_one() -> None:
    certain = np.where(np.arange(100) > START[:, None], 1 / (99 - START[:, None]), 0)
    np.testing.assert_allclose(probability_difference(certain, START), 1)


def test_a_model_that_answers_anything_at_all_loses_nothing_but_its_mass_on_other_tokens() -> None:
    flat = np.full((1, 100), 0.005)
    assert probability_difference(flat, np.array([49]))[0] == pytest.approx(0, abs=1e-15)


def test_the_summary_is_mean_and_standard_deviation_over_prompts() -> None:
    behaviour = measure(PROBABILITIES, START)
    values = probability_difference(PROBABILITIES, START)
    expected = {"mean": np.mean(values), "sd": np.std(values)}
    assert behaviour.means()["probability_difference"] == pytest.approx(expected)
    assert set(behaviour.means()) == {"probability_difference", "cutoff_sharpness", "logit_step", "top_1", "top_5"}


def test_accuracy_is_the_share_of_the_most_likely_years_that_are_later() -> None:
    found = measure(PROBABILITIES, START)
    for row, start in enumerate(START):
        likely = sorted(range(100), key=lambda y: -PROBABILITIES[row, y])
        assert found.top_1[row] == (likely[0] > start)
        assert found.top_5[row] == pytest.approx(sum(y > start for y in likely[:5]) / 5)
    tied = measure(np.full((1, 100), 0.01), np.array([2]))
    assert (tied.top_1[0], tied.top_5[0]) == (0, 0.4)


def test_the_logit_step_is_the_difference_of_two_logits() -> None:
    rows = np.arange(len(START))
    expected = LOGITS[rows, START + 1] - LOGITS[rows, START - 1]
    np.testing.assert_allclose(logit_step(LOGITS, START), expected, rtol=1e-12)
    np.testing.assert_allclose(measure(PROBABILITIES, START).logit_step, expected, atol=1e-9)


def test_means_by_start_year_equal_a_direct_loop() -> None:
    means = by_start_year(LOGITS, START)
    for year in range(100):
        rows = year == START
        if rows.any():
            np.testing.assert_allclose(means[year], LOGITS[rows].mean(0), rtol=1e-12)
        else:
            assert np.isnan(means[year]).all()
