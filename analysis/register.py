"""Register a forecast before the runs that it is about: `python -m analysis.register --help`."""

from analysis.forecast.register import main

if __name__ == "__main__":
    main()
