"""Which of some runs are not complete: `python -m core.left runs/SWEEP/RUN ...` prints them, one a line, for scripts.

A result.json that does not count is named on standard error.
"""

import sys
from pathlib import Path

from core.errors import exit_on_bad_input
from core.rundir import RunDirectory


@exit_on_bad_input()
def main(paths: list[str]) -> None:
    for path in paths:
        run = RunDirectory(Path(path))
        completion = run.completion()
        if completion.problem:
            sys.stderr.write(f"warning: {run.result}: {completion.problem}; finishing the run again\n")
        if completion.result is None:
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
