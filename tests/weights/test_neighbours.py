"""Neighbours: the nearest by cosine, among weights as they act."""

import numpy as np
import pytest
import torch

from neurons.model.model import normalise
from neurons.types import NeuronId
from neurons.weights.neighbours import every_neuron, nearest, weight_features

NAMES = every_neuron((3, 7), 5)


def test_the_nearest_are_found_without_oneself():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10, 6))
    cosine = rows @ rows.T / np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(rows, axis=1))
    for place, found in enumerate(nearest({"a": rows}, NAMES, NAMES, count=4)):
        order = [other for other in np.argsort(-cosine[place]) if other != place][:4]
        assert found.closest["a"] == tuple(NAMES[other] for other in order)
        np.testing.assert_allclose(found.cosine["a"], cosine[place, order], rtol=1e-12)


def test_each_kind_of_feature_has_its_own_neighbours():
    a, b = np.eye(10), np.eye(10)
    a[0, 1], b[0, 2] = 1, 1
    (found,) = nearest({"a": a, "b": b}, NAMES, [NAMES[0]], count=1)
    assert found.closest == {"a": (NAMES[1],), "b": (NAMES[2],)}
    assert found.to_json()["a"] == [{"neuron": "L3N1", "cosine": 0.7071}]


def test_a_neuron_of_zeros_is_like_no_other():
    rows = np.eye(10)
    rows[4] = 0
    (found,) = nearest({"a": rows}, NAMES, [NAMES[4]])
    assert not found.cosine["a"].any()


def test_few_neurons_have_few_neighbours():
    (found,) = nearest({"a": np.eye(2)}, NAMES[:2], NAMES[:1], count=5)
    assert found.closest["a"] == (NAMES[1],)


def test_input_features_are_what_a_neuron_takes_from_the_residual(random_small):
    """Feature . x / sigma is the pre-activation less its constant part: gain and centring are in the feature."""
    layer = 5
    features = weight_features(random_small, (layer,))["w_in"]
    x = torch.randn(4, random_small.config.d_model, generator=torch.Generator().manual_seed(0))
    block, eps = random_small.blocks[layer], random_small.config.layer_norm_eps
    expected = (normalise(x, block.ln_2, eps) - block.ln_2.bias) @ block.W_in
    sigma = (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt().numpy()
    np.testing.assert_allclose(x.numpy() / sigma @ features.T, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_output_features_have_no_mean(random_small):
    features = weight_features(random_small, (1, 2))["w_out"]
    assert features.shape == (2 * random_small.config.d_mlp, random_small.config.d_model)
    assert np.abs(features.mean(1)).max() < 1e-7


@pytest.mark.parametrize("layers", [(2,), (0, 4)])
def test_rows_are_named_by_layer_and_index(layers):
    names = every_neuron(layers, 3)
    assert names[0] == NeuronId(layers[0], 0)
    assert len(names) == 3 * len(layers)
