"""Which share of the answer each neuron adds among the others: Aumann-Shapley shares, Shapley values, sets kept or
ablated.

Public: `attribute` (shares), `shapley` and `shapley_by_permutation` (shapley), `attributed` and
`kept_measures` (sets), `rank` (ranking).

Read in this order: `draws` (random other start years), `end` (END run between a random year and the prompt's own),
`answer` (measures and gradients), `shares`; `sets` and `shapley` run the same END with sets of neurons kept;
`approximations` holds the field's own estimates, which `orders` compares with shares; `ranking` puts neurons in
order; `results` and `ranking_results` are what is found.
"""
