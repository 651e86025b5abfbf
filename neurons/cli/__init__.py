"""How it is asked for: the `neurons` command."""
