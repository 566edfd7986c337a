"""Score a registered forecast: `python -m analysis.score --help`."""

from analysis.forecast.score import main

if __name__ == "__main__":
    main()
