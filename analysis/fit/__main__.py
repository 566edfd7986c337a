"""Fit a scaling law to a table or a sweep: `python -m analysis.fit --help`."""

from analysis.fit.command import main

main()
