"""A stop request in the middle of training."""


class StopAfter:
    """A stop request that comes after so many steps; 0 for never."""

    def __init__(self, steps: int):
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0
