"""`at_end.after_ablation`: which weights are multiplied depends on how many neurons are held, the numbers do not."""

import numpy as np
import pytest
import torch

from neurons.model import at_end
from neurons.model.forward import attention_at_end, trace
from neurons.model.model import Model, post_activation
from neurons.task.prompt_set import PromptSet

PROMPTS = 5


@pytest.mark.parametrize("gathered", [-PROMPTS, 1e9], ids=["weights of the others", "all weights"])
def test_sets_are_held_by_replacing_their_columns_layer_by_layer(
    random_small: Model, mini_prompts: PromptSet, gathered: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To 1e-12 of the residual in float64, one set after the other; from none held to all held."""
    monkeypatch.setattr(at_end, "GATHERED", gathered)
    model, rng = random_small.to(torch.float64), np.random.default_rng(0)
    kept, N = trace(model, mini_prompts.tokens[:PROMPTS], shared=mini_prompts.year_position), model.config.d_mlp
    order = torch.as_tensor(rng.permutation(N))
    held = {layer: torch.stack([order < size for size in (0, 1, N // 2, N - 2, N)]) for layer in (8, 9, 11)}
    values = {layer: torch.as_tensor(rng.standard_normal((PROMPTS, N))) for layer in held}
    found = at_end.after_ablation(model, kept, held, values)
    for variant in range(len(found)):
        x = kept.mid[8]
        for layer in range(8, model.config.n_layers):
            if layer > 8:
                x = x + attention_at_end(model, layer, x[None], kept)[0]
            post = post_activation(model, layer, x)
            if layer in held:
                columns = held[layer][variant]
                post[:, columns] = values[layer][:, columns]
            x = x + model.blocks[layer].b_out + post @ model.blocks[layer].W_out
        torch.testing.assert_close(found[variant], x, rtol=0, atol=1e-12 * float(x.abs().max()))
