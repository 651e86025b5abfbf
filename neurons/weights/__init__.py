"""What weights alone show: moments over the vocabulary, tokens, neighbours; and activations on text.

Public: `neuron_statistics` (statistics) and `NeuronStatistics` (results); `study_text` (text) and `nearest`
(neighbours) feed the neurons' pages; `specificity` (specificity) asks whether neurons fire on years or on much else.

Read in this order: `results` (what is measured), `statistics` (the whole vocabulary), `vocabulary` (the tokens of one
neuron), `contexts` (activations on prompts), `text` (all of it for some neurons), `neighbours`,
`reading` (a text of the user's, from `files`) and `specificity` with `specificity_results`.
"""
