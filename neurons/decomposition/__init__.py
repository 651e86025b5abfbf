"""What each neuron adds directly to the logits of the years, through the final LayerNorm, and which neurons boost.

Public: `logit_effects` and `plain_logit_lens` (effects), `rank` (ranking), `neuron_population` (population),
`measured_behaviour` (measured). Everything is read from a cache file; no model is needed.

Read in this order: `cells` (activations read once), `effects` (direct logit attribution as factors), `ranking`
(boosting scores and verdicts), `significance` (p values, false discovery rate), `population` (many neurons as
arrays), `shapes` (triangle, diagonal, span limit), `pairing` (a layer's pairing test), `profiles` (one neuron by
start year), `measured` (the behaviour of the cached runs); `results` holds the behaviour.
"""
