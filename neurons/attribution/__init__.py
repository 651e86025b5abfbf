"""Which share of the answer does each neuron add among the others? Aumann-Shapley shares and Shapley values.

Public: `attribute` (shares), `shapley` and `shapley_by_permutation` (shapley), `attribute_positions` (positions).

Read in this order: `end` (END run between a random year and the prompt's own), `answer` (measures and gradients),
`shares`, `spread` (shares on several processes); `shapley` runs the same END with sets of neurons kept;
`approximations` and `patching` hold the field's own estimates, `positions` what lies before END; `results`, `recovery`
and `position_results` are what is found.
"""
