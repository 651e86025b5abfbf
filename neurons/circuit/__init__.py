"""Path patching: the circuit that brings the start year to the answer."""
