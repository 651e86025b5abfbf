"""Which neurons come first, and how many of them are enough?

Public: `rank` (ranking), `attributed` and `kept_measures` (sets), `compare_orders` (orders).

Read in this order: `sets` (what sets of neurons recover, kept or removed, and how many it takes), `ranking` (neurons in
order, and who is called boosting), `orders` (what the first k of other orders recover); `results` is what is found.
"""
