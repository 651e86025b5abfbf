"""Tasks, models and checkpoints side by side, and the published measurements with their verdicts.

Public through `Study`: `checks`, `tasks`, `compare`. `replicate` (replication) measures what is published,
`compare_sides` (sides) compares models, `groups` and `carried` (transfer) compare tasks.

Read in this order: `published` (published values and how they are judged), `checks` and `check_maps` (measurements to
verdicts), `sampled` and `replication` (with the model); `overlap` (which neurons boost in two rankings), `transfer`
(tasks), `sides` (models), `development` (checkpoints of one run); `results` and `model_results` hold what they find.
"""
