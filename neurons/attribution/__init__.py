"""Attribution of the answer to neurons: shares (Aumann-Shapley), Shapley values, sets kept and removed.

Read `draws`, `end`, `answer`, then `shares`; `sets` and `shapley` run the same END with sets of neurons kept.
"""
