"""How do the first neurons reach the answer: directly, through the final LayerNorm's scale, later attention or neurons?

Public: `follow` (follow): both of the following for the first neurons by share.

Read in this order: `share` (each share split along its own path, with the matrix neuron by neuron), `effect` (the total
effect of each neuron alone split in the same way), `averages` (prompts to means), `follow`; `results` holds what they
find and opens without torch.
"""
