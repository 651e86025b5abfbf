"""The circuit that brings the start year to the neurons and to the answer: path patching and edge attribution.

Public: `study_circuit` (study) runs everything; `find_circuit` (search), `edge_effects` (edge_attribution), `evaluate`
(evaluation), `roles` (roles) and `explain_neurons` (inputs) are its parts; `read_circuit` and `published_circuit`
(graph) are circuits to evaluate.

Read in this order: `graph` (nodes and edges), `paths` (path patching), `search` (discovery), `edges` and
`edge_attribution` (EAP-IG), `evaluation`, `roles`, `inputs`, `study`; `search_results` and `results` hold what they
find.
"""
