"""How the neurons' maps add up to ">", and whether a description of them, put back into the model, still does it.

Public: `compose` (composition), and through `Study`: `faithfulness`, `faithfulness_of_each`, `tiling`.

Read in this order: `terms` (the named shapes), `parts` (layers and groups), `sparse` (sums of the first neurons),
`composition`; `described` (curves that a description gives to each neuron) and `faithfulness` (what the model does with
them, and with the first neurons); `tiling` (tuning centres and readout edges) and `exchange` (neurons at each other's
curves). `results`, `faithfulness_results` and `tiling_results` hold what they find. `faithfulness` and `exchange` run
the model.
"""
