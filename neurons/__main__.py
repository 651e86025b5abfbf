"""`python -m neurons` is the `neurons` command."""

from neurons.cli.main import main

if __name__ == "__main__":
    main()
