"""What is kept: activations and answers in one HDF5 file for each model and prompt set, and results beside it.

The only floor that knows h5py. Public: `cache_activations` (build), `open_cache`, `verify_cache` and `Cache` (format),
`keep_result` and `kept_result` (results), `parts_beside` (parts). Nothing but `build` and `compute` needs a model.

Read in this order: `layout` (what a file holds), `format` (key, opening, reading), `integrity` and `checks` (why it can
be trusted), `build` with `plan`, `compute`, `parts`, `assemble` and `folder` (how it is built), `results`.
"""
