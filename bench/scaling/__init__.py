"""Several processes and machines, measured.

python -m bench.scaling processes|workers|stretches|costs|node-lost|stopped -o DIR
"""
