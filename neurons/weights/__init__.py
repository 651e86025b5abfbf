"""What weights alone show: moments over the vocabulary, tokens, neighbours; and activations on text.

Public: `neuron_statistics` (statistics) and `NeuronStatistics` (results); `study_text` (text) and `nearest`
(neighbours) feed the neurons' pages.

Read in this order: `results` (what is measured), `statistics` (the whole vocabulary), `vocabulary` (the tokens of one
neuron), `contexts` (activations on prompts), `text` (all of it for some neurons), `neighbours`.
"""
