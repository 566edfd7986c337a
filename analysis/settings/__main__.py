"""What the settings of a sweep do: python -m analysis.settings runs/SWEEP."""

from analysis.settings.command import main

main()
