"""Predict losses from a fit: `python -m analysis.forecast --help`."""

from analysis.forecast.predict import main

main()
