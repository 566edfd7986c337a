"""Text from a trained network: the next token over and over, with keys and values of earlier positions kept.

cache.py      a network's answer to new positions, given what it keeps of those before
controls.py   how the next token may be chosen
draw.py       what that does to the scores of the next token
program.py    the two compiled programs: after the prompts, and some tokens more
generate.py   batches of prompts of unequal lengths, of one network or of a pack
stops.py      texts that end a text
size.py       bytes of what is kept
"""
