"""python -m analysis.leaderboard"""

import sys

from analysis.leaderboard.command import main

if __name__ == "__main__":
    sys.exit(main())
