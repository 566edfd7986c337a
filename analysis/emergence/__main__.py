"""Test whether abilities emerge: `python -m analysis.emergence --help`."""

import sys

from analysis.emergence.command import main

sys.exit(main())
