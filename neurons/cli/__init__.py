"""How a command line becomes a study: options to `neurons.Study`, its results to text or JSON.

Read in this order: `main` (all commands, errors), `options` (those of nearly every command), `common` (progress,
tables, JSON), then a file for each group: `core` (report, behaviour, rank, effect) with `rank_tables`, `causal` with
`causal_tables`, `compose` (cluster, compose), `circuit`, `comparisons` (tasks, check, compare), `caches` (cache,
models).
"""
