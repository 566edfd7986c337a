"""What mixes positions in a block other than `transformer.Attention`: the modules that files of model/blocks/ name.

Each computes a whole sequence at once, and has a subclass `Resumed...` for decoding: it goes on from what it kept of
earlier positions (model/decode/cache.py sets `start_B`, `count_B` and `kept`).
"""
