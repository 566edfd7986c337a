"""A sweep while it trains: as a page on 127.0.0.1 (`launch.py watch`) and in the terminal (`launch.py status --watch`).

Both read the logs and nothing else, and only those that have changed.
"""
