"""Write the report of a sweep: `python -m analysis.report --help`."""

from analysis.report.command import main

main()
