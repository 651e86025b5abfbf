"""Which neurons come first, and how many of them are enough?

Public: `rank` (ranking), `attributed` and `kept_measures` (sets), `compare_orders` (orders), `set_study` and
`on_other_prompts` (enough), `interchange` (interchange), `learned_masks` (masks).

Read in this order: `sets` (what sets of neurons recover, kept or removed, and how many it takes), `ranking` (neurons in
order, and who is called boosting), `orders` (what the first k of other orders recover), `enough` (the first k beside
random sets, and what a set leaves out), `patched` (neurons of one run in another), with `directions` and `interchange`
on it, `masks` (sets learned by gradient). `results`, `set_results` and `mask_results` are what is found.
"""
