"""A curve along training with as many points as can be seen."""

import numpy as np

BLOCK_SHARE = 0.06  # of the tokens so far, and of a tenth of the run: what one point of a curve averages


def thinned(tokens: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over blocks of tokens, so that a log draws as a line and not as noise.

    Blocks grow with the tokens before them, so that the short log of a branch is averaged as its trunk's is.
    """
    _, starts = np.unique(np.ceil(np.log(tokens + tokens[-1] / 10) / BLOCK_SHARE), return_index=True)
    sizes = np.diff(np.append(starts, tokens.size))
    return np.add.reduceat(tokens, starts) / sizes, np.add.reduceat(loss, starts) / sizes
