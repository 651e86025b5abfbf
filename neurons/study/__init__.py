"""One way in: a model, a prompt set, and every analysis of them.

Public: `Study` (study). Read in this order: `settings` (what a study is made of), `opened` (what it loads and keeps),
`answered` (shares and ranking), `composed` (clusters and composition), `ablated` (exact effects),
`study` (one method for each analysis), `computed` (how each is computed), `pages` (its report), `side_by_side` (several
studies).
"""
