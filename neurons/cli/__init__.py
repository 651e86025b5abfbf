"""How a command line becomes a study: options to `neurons.Study`, its results to text or JSON.

Read in this order: `main` (all commands, errors), `options` (those of nearly every command), `common` (progress,
tables, JSON), then a file for each group: `core` (report, behaviour, rank, effect) with `rank_tables`, `causal` with
`causal_tables`, `compose` (cluster, compose), `circuit`, `comparisons` (tasks, check, compare), `caches` (cache,
models).
"""

import os

# NumPy reads it as it loads; a second thread of its own gains nothing and waits busily on a core that torch needs
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
