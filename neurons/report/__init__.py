"""How results are shown: pages, figures and data files. It computes no statistics and runs no model.

Public through `Study`: `report` writes a folder of pages.

Read in this order: `contents` (the results that a report shows), `report` (which pages they make), `pages/` (one
module for each), `blocks` (what pages are made of), `figures/`, `render` (HTML) and `markdown`, `explorer` (every
neuron on one page), `numbers` and `weight_numbers` (report.json), `drawing` (figures as files), `folder` (where it
is written), `circuit_files` (a circuit as a file of other tools).
"""
