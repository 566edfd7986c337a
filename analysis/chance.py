"""Which chance belongs to which metric of a task: that of an exact match is not that of a choice."""

import math
from collections.abc import Mapping

from core.records import HARNESS

FREE_TEXT = ("file:", "lm-eval:")  # tasks of which `chance` is that of a choice, by the number of choices


def chance_of(task: str, metric: str, values: Mapping[str, float]) -> float:
    """The score of a blind guess in a metric; NaN where the runs do not say.

    Args:
      metric: exact_match, choice_accuracy, or acc of the harness.
      values: the scores of the task by name, with chance and choice_chance.
    """
    if task.startswith(HARNESS):  # which says the chance of a choice, 0 where there is none
        return 0.0 if metric == "exact_match" else values.get("chance", math.nan)
    if metric == "exact_match":
        return 0.0 if task.startswith(FREE_TEXT) else values.get("chance", 0.0)
    return values.get("choice_chance", math.nan)
