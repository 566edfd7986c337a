"""Text from a trained network: the next token over and over, with keys and values of earlier positions kept.

cache.py      a network's answer to new positions, given what it keeps of those before
controls.py   how the next token may be chosen
draw.py       what that does to the scores of the next token
generate.py   batches of prompts of unequal lengths, decoded by one compiled program
size.py       bytes of what is kept
"""
