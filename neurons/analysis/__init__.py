"""What is found: arrays in, frozen results out."""
