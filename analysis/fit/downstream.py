"""From scale to a task: predict the loss, then what the loss is worth, with the uncertainty of both steps.

Gadre et al. 2024 (arXiv 2403.08540): loss by the over-trained law, then average error of the loss. Bhagia et al. 2024
(arXiv 2412.04403): bits per byte of the right answer by the chinchilla law, then accuracy as a sigmoid of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fit.fit import Fit, fit_law
from core.errors import BadInput

PAIRED_DRAWS = 2000


@dataclass(frozen=True)
class Chain:
    """Two fits, the second of which takes what the first predicts.

    `first` predicts `link` (an input of `second`) from params, tokens and so on.
    """

    first: Fit
    second: Fit
    link: str

    def predict(self, columns: Mapping[str, Any]) -> np.ndarray:
        """The target of the second step at new inputs of the first."""
        return self.second.predict({self.link: self.first.predict(columns)})

    def predict_interval(
        self, columns: Mapping[str, Any], level: float = 0.95, noise: bool = True, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends, one a row.

        Draws of both steps are paired at random (the steps were fitted to different rows), and with `noise` each
        step's residuals are drawn too: the first's pass through the second's slope.

        Raises:
          BadInput: a step without draws, or a level outside 0 and 1.
        """
        if not 0 < level < 1:
            raise BadInput(f"level {level!r} is not allowed; it lies between 0 and 1")
        if self.first.draws is None or self.second.draws is None:
            raise BadInput("a step of the chain has no draws: its table does not determine an interval")
        rng = np.random.default_rng(seed)
        one = self.first.draws[rng.integers(0, len(self.first.draws), PAIRED_DRAWS)]
        two = self.second.draws[rng.integers(0, len(self.second.draws), PAIRED_DRAWS)]
        middle = self.first.at(one, columns)
        if noise:
            drawn = rng.choice(self.first.residual_quantiles, middle.shape)
            middle = middle * np.exp(drawn) if self.first.objective.space == "log" else middle + drawn
        ends = self.second.at(two, {self.link: middle})
        if noise:
            ends = ends + rng.choice(self.second.residual_quantiles, ends.shape)
        low, high = np.quantile(ends, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return low, high


def loss_to_error(scale: Mapping[str, np.ndarray], tasks: Mapping[str, np.ndarray], **options: Any) -> Chain:
    """Gadre et al.: `scale` has params, tokens_per_param (or tokens) and loss; `tasks` has loss and error.

    Both steps are least squares on values, as published; `options` (bootstrap, seed, ...) go to both fits.
    """
    first = fit_law("overtrained", scale, robust="l2", space="linear", **options)
    return Chain(first, fit_law("error_from_loss", tasks, robust="l2", **options), "loss")


def bits_to_accuracy(
    scale: Mapping[str, np.ndarray], tasks: Mapping[str, np.ndarray], *, perfect: bool = True, **options: Any
) -> Chain:
    """Bhagia et al.: `scale` has params, tokens and loss (bits per byte); `tasks` has bits_per_byte and accuracy.

    Args:
      perfect: add the published anchor, an accuracy of one at zero bits per byte, to the second step.
    """
    first = fit_law("chinchilla", scale, **options)
    bits, accuracy = (np.asarray(tasks[name], dtype=np.float64) for name in ("bits_per_byte", "accuracy"))
    if perfect:
        bits, accuracy = np.append(bits, 0.0), np.append(accuracy, 1.0)
    second = fit_law(
        "accuracy_from_bits", {"bits_per_byte": bits, "accuracy": accuracy}, robust="l2", **options
    )
    return Chain(first, second, "bits_per_byte")
