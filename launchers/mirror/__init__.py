"""Mirrors of a sweep in experiment trackers, made from its logs and never from the training loop.

Restarts, packs and duplicates are then solved by the one reader of the logs, and a tracker that fails stops no run. A
tracker is one file of trackers/, chosen by its name.
"""
