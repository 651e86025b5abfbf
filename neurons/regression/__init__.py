"""How the neurons' maps add up to ">": named shapes, components, sparse reconstruction.

Public: `compose` (composition). No model is needed.

Read in this order: `terms` (the named shapes), `composition` (components, matching pursuit, accumulation), `parts`
(layers and groups); `results` holds what they find.
"""
