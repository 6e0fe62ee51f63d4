"""The grid-encoded light field that trains in minutes on a CPU."""
