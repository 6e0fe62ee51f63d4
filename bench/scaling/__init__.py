"""Several processes and machines, measured.

python -m bench.scaling processes|workers|costs|node-lost|stopped -o DIR
"""
