"""The circuit that brings the start year to the neurons and to the answer: exact path patching.

Public: `study_circuit` (study) runs everything; `find_circuit` (search), `evaluate` (evaluation), `roles` (roles) and
`explain_neurons` (inputs) are its parts; `read_circuit` and `published_circuit` (graph) are circuits to evaluate.

Read in this order: `graph` (nodes and edges), `paths` (path patching), `search` (discovery), `evaluation`, `roles`,
`inputs`, `study`; `search_results` and `results` hold what they find.
"""
