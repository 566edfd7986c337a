"""Find isoFLOP valleys: `python -m analysis.isoflop --help`."""

from analysis.isoflop.find import main

main()
