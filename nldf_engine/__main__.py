"""`python -m nldf_engine`: the same as the command `nldf`."""

from nldf_engine.apps.cli.main import entry

entry()
