"""What each neuron adds directly to the logits of the years, through the final LayerNorm, and when it does.

Public: `logit_effects` and `plain_logit_lens` (effects), `neuron_population` (population),
`measured_behaviour` (measured). Everything is read from a cache file; no model is needed.

Read in this order: `cells` (activations, read once), `effects` (direct logit attribution as factors), `scores`
(static and year-specific part, tuning centre, readout edge), `population` (many neurons as arrays), `shapes`
(triangle, diagonal, span limit), `pairing` (a layer's pairing test), `profiles` (one neuron by start year),
`measured` (the behaviour of the cached runs); `results` holds the behaviour.
"""
