"""What each neuron is tuned to, and which neurons are similar: tuning curves, families of curves, clusters.

Public: `tune` (tuning) and `cluster` (clusters); both take a population of neurons (`neuron_population`). No model
is needed.

Read in this order: `tuning` (the family of each curve), `families` (the curves), `heuristics` (simple rules of the
start year), `similarity`, `clusters` with `partition`, `continuum` (whether there are clusters; kept as `evidence`),
`prototypes` (a shape for each cluster or bin), `descriptions` (a neuron in one line); `results` holds what they find.
"""
