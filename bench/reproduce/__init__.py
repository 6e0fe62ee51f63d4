"""The papers' experiments, at a scale that a machine can run: trained, measured, laid out in tables.

    python -m bench.reproduce table1 table2 table3 --scale cpu --data data/speaker -o runs/tables

A *cell* is one training; its name is a hash of all that it depends on, so tables share the cells that they
have in common, and a finished cell is never trained again. A *table* is one of a paper: what each of its rows
changes, and what the paper says came of it. A *scale* says how large everything is: "paper", "cpu" or "tiny".
"""
