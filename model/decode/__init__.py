"""Text from a trained network: the next token over and over, with keys and values of earlier positions kept.

cache.py      a network's answer to new positions, given what it keeps of those before
controls.py   what is done to the scores of the next token before one is drawn
generate.py   batches of prompts of unequal lengths, decoded by one compiled program
size.py       bytes of what is kept
"""
