"""One way in: a model, a prompt set, and every analysis of them. Read `settings`, `opened`, `study`, `side_by_side`."""
