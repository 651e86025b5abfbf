"""Tasks, models and checkpoints side by side, and the published measurements."""
