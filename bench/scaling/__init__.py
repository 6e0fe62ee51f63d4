"""Several processes and machines, measured: `python -m bench.scaling processes|workers|cluster -o DIR`."""
