"""Who answers: checkpoints and the forward at END."""
