"""One module a page, each made from numbers and nothing else."""
