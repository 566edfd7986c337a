"""Find isoFLOP valleys: `python -m analysis.isoflop --help`."""

from analysis.isoflop.command import main

main()
