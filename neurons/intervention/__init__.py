"""What changes when neurons, sets of them, or whole layers are ablated at END: exact effects, everything after run
again.

Public: `ablation_context` (context), `neuron_effects` and `group_effect` (exact), `ablations` and `top_k_curves` (the
study that the command and the report show).

Read in this order: `draws` (random other start years), `context` (model, cache, prompts, replacement values), `readers`
(measures of a residual), `groups` (neurons held at END), `exact`, `curves`, `components`, `ablations`; `sweep` spreads
it over processes; `results` and `curve_results` hold what they find.
"""
