"""What neurons write on tokens and do on text equals plain arithmetic and a TransformerBridge's hooks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import neurons
from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result
from neurons.model.model import Model
from neurons.task.controls import controls
from neurons.types import CacheError, InputError, NeuronId
from neurons.weights.contexts import activations_on, control_curves, extreme_prompts
from neurons.weights.results import TextStudy
from neurons.weights.text import study_text
from neurons.weights.vocabulary import vocabulary_readouts

SOME = ("L11N165", "L8N3", "L9N43", "L11N2")


# --- the vocabulary --------------------------------------------------------------------------------


def all_logits(model: Model, neuron: NeuronId) -> np.ndarray:
    """The change of all logits for each unit of a/sigma, by the final LayerNorm's own arithmetic in float64."""
    w, gain = model.blocks[neuron.layer].W_out[neuron.index].double(), model.ln_final.gain.double()
    logits = ((w - w.mean()) * gain) @ model.W_U.double().T
    return (logits - logits.mean()).numpy()


def test_promoted_and_suppressed_tokens_are_the_ends_of_all_logits(mini_model: Model) -> None:
    for name, found in zip(SOME, vocabulary_readouts(mini_model, SOME, top=7), strict=True):
        logits = all_logits(mini_model, NeuronId.parse(name))
        order = np.argsort(logits)
        assert found.neuron == NeuronId.parse(name)
        assert found.promoted.ids.tolist() == order[::-1][:7].tolist()
        assert found.suppressed.ids.tolist() == order[:7].tolist()
        np.testing.assert_allclose(found.promoted.logit, logits[found.promoted.ids], rtol=1e-4, atol=1e-6)
        assert found.promoted.texts == tuple(mini_model.tokenizer.decode(i) for i in found.promoted.ids.tolist())


def test_logits_of_the_years_are_the_readout_of_the_cache(mini_model: Model, mini_cache: Cache) -> None:
    """Up to what all tokens get."""
    ids = mini_cache.read("years/token_ids")
    (found,) = vocabulary_readouts(mini_model, ["L11N165"], top=mini_model.config.d_vocab)
    written = np.empty(mini_model.config.d_vocab)
    written[found.promoted.ids] = found.promoted.logit
    difference = written[ids] - mini_cache.readout(11, slice(165, 166))[0]
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-6)


def test_cosines_in_the_histogram_have_the_moments_of_the_statistics(mini_model: Model) -> None:
    found = neurons.neuron_statistics(mini_model, [11])
    for readout in vocabulary_readouts(mini_model, ["L11N165", "L11N2"], top=mini_model.config.d_vocab, bins=30):
        row, cosine = found.row_of(readout.neuron), readout.promoted.cosine.astype(float)
        assert readout.counts.sum() == found.n_tokens == len(cosine)
        assert readout.year_counts.sum() == 100
        assert (readout.year_counts <= readout.counts).all()
        assert readout.counts.tolist() == np.histogram(cosine, readout.edges)[0].tolist()
        np.testing.assert_allclose([cosine.mean(), cosine.var()], [found.mean[row], found.variance[row]], rtol=1e-5)


def test_many_neurons_are_read_in_parts(mini_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vocabulary_readouts(mini_model, SOME)
    monkeypatch.setattr("neurons.weights.vocabulary.NEURONS", 3)
    parts = vocabulary_readouts(mini_model, SOME)
    assert [one.promoted.texts for one in parts] == [one.promoted.texts for one in whole]


@pytest.mark.parametrize("asked", [{"top": 0}, {"top": 1062}, {"bins": 0}])
def test_too_many_or_no_tokens_are_refused(mini_model: Model, asked: dict[str, int]) -> None:
    with pytest.raises(InputError, match="choose 1-1061 tokens"):
        vocabulary_readouts(mini_model, SOME, **asked)


def test_neurons_that_are_not_there_are_refused(mini_model: Model) -> None:
    with pytest.raises(InputError, match="L9N256 does not exist"):
        vocabulary_readouts(mini_model, ["L9N256"])
    with pytest.raises(InputError, match="no neurons named"):
        vocabulary_readouts(mini_model, [])


# --- text ------------------------------------------------------------------------------------------


def test_activations_at_every_position_are_the_bridges(mini_model: Model, mini_cache: Cache) -> None:
    """1e-5 of float32: the tolerance of the forward at END."""
    tokens = mini_cache.read("prompts/tokens", slice(0, 400, 100))
    found = activations_on(mini_model, tokens, SOME)
    _, kept = mini_model.bridge.run_with_cache(torch.as_tensor(tokens, dtype=torch.long))
    for row, name in enumerate(SOME):
        neuron = NeuronId.parse(name)
        expected = kept[f"blocks.{neuron.layer}.mlp.hook_post"][..., neuron.index].detach().numpy()
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_many_prompts_are_run_in_parts(mini_model: Model, mini_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = mini_cache.read("prompts/tokens", slice(0, 7))
    whole = activations_on(mini_model, tokens, SOME)
    monkeypatch.setattr("neurons.weights.contexts.PROMPTS", 3)
    np.testing.assert_allclose(activations_on(mini_model, tokens, SOME), whole, atol=1e-6)


def test_the_extreme_prompts_are_those_of_the_cache(mini_model: Model, mini_cache: Cache) -> None:
    strongest, weakest = extreme_prompts(mini_model, mini_cache, "L11N165", shown=3)
    strength = (mini_cache.post(11) / mini_cache.scale[:, None])[:, 165]
    assert [one.strength for one in strongest] == sorted(strength.tolist(), reverse=True)[:3]
    assert [one.strength for one in weakest] == sorted(strength.tolist())[:3]
    for one in (*strongest, *weakest):
        assert one.activation[-1] == pytest.approx(mini_cache.post(11)[one.row, 165], abs=1e-5)
        assert one.texts[0] == "<|endoftext|>"
        assert one.texts[8] == f"{one.start_year:02d}"


def test_the_year_span_control_is_the_tuning_curve(mini_model: Model, mini_cache: Cache) -> None:
    """On the nouns and centuries of a cache, the control's own run gives the cache's activations."""
    prompts = neurons.year_spans(mini_model.tokenizer, nouns=["war", "siege"], centuries=(17,))
    made = controls(mini_model.tokenizer, nouns=["war", "siege"], century=17)
    (curves,) = control_curves(mini_model, made.kinds[:2], ["L9N43"])
    post = activations_on(mini_model, prompts.tokens, ["L9N43"])[0, :, -1]
    rows = prompts.start_year == 32
    at = curves[0].labels.index("32")
    scale = _scale(mini_model, prompts.tokens[rows])
    expected = post[rows] / scale
    assert (curves[0].low[at], curves[0].high[at]) == pytest.approx((expected.min(), expected.max()), abs=1e-5)
    assert curves[0].mean[at] == pytest.approx(expected.mean(), abs=1e-5)
    assert curves[0].summary()["max"] == curves[0].high.max()


def _scale(model: Model, tokens: np.ndarray) -> np.ndarray:
    _, kept = model.bridge.run_with_cache(torch.as_tensor(tokens, dtype=torch.long))
    return kept["ln_final.hook_scale"][:, -1, 0].detach().numpy()


def test_a_cache_of_another_model_is_refused(random_small: Model, mini_cache: Cache) -> None:
    with pytest.raises(CacheError, match="was made with other weights"):
        extreme_prompts(random_small, mini_cache, "L9N43")


def test_tokens_that_do_not_fit_are_refused(mini_model: Model) -> None:
    with pytest.raises(InputError, match="of 1-64 tokens"):
        activations_on(mini_model, np.zeros((1, 65), int), SOME)
    with pytest.raises(InputError, match="token 1061 is outside"):
        activations_on(mini_model, np.full((1, 5), 1061), SOME)


# --- kept ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(mini_model: Model, mini_cache: Cache) -> TextStudy:
    return study_text(mini_model, mini_cache, SOME[:2])


def test_a_study_comes_back_as_it_was_kept(study: TextStudy, mini_cache: Cache, tmp_path: Path) -> None:
    cache = replace(mini_cache, path=tmp_path / "mini-1.h5")
    keep_result(cache, "text", {}, study)
    again = kept_result(cache, "text", {}, TextStudy)
    one, other = study.of("L8N3"), again.of("L8N3")
    assert other.vocabulary.promoted.texts == one.vocabulary.promoted.texts
    assert other.strongest[0].activation.tobytes() == one.strongest[0].activation.tobytes()
    assert [curve.kind for curve in other.controls] == [curve.kind for curve in one.controls]
    assert again.left_out == study.left_out


def test_a_neuron_that_was_not_looked_at_is_told(study: TextStudy) -> None:
    with pytest.raises(InputError, match="L9N43 is not in this text study"):
        study.of("L9N43")


def test_mini_follows_years_and_prices_but_not_numbers_without_order(study: TextStudy) -> None:
    """The control does its work on the bundled model: its strongest neuron looks at spans."""
    spread = {curve.kind: np.ptp(curve.mean) for curve in study.of("L11N165").controls}
    assert spread["year_span"] > 1
    assert max(spread["no_order"], spread["counts"]) < 0.1
