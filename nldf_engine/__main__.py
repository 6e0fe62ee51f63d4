"""`python -m nldf_engine`: the same as the command `nldf`."""

import sys

from nldf_engine.apps.cli import main

sys.exit(main())
