"""Values that are possible yet probably mistaken: units, copies, a loss that rises, a perplexity."""

from collections.abc import Mapping

import numpy as np

# No language model that anyone fits a law to has fewer parameters or training tokens than this; a column
# that never exceeds it was most likely written in millions or billions.
SMALLEST_COUNT = 1e4
# Nor is one of a grid smaller than this, whatever the largest is.
SMALLEST_PARAMS = 1e3
SMALLEST_FLOPS = 1e9
# FLOPs differ from 6 params tokens by the convention (embedding, attention), not by this factor.
FLOPS_FACTOR = 20.0
# Guessing among 400,000 tokens costs so many nats a token.
LARGEST_LOSS = 13.0
NO_NUMBERS = ("run", "weight", "seed")


def suspicions(columns: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Warnings about values that are possible yet probably mistaken: units, duplicates, loss that rises."""
    found: list[str] = []
    columns = {name: values for name, values in columns.items() if values.dtype.kind == "f"}
    for name in ("params", "tokens", "flops"):
        found.extend(unit_question(name, columns[name]) if name in columns else [])
    if {"params", "tokens", "flops"} <= columns.keys():
        ratio = float(np.median(columns["flops"] / (6.0 * columns["params"] * columns["tokens"])))
        if not 1.0 / FLOPS_FACTOR < ratio < FLOPS_FACTOR:
            found.append(f"flops are {ratio:.3g} times 6 params tokens in the median row: check the units")
    doubled = _duplicates(columns)
    if doubled:
        found.append(
            f"{doubled} row{'s repeat' if doubled > 1 else ' repeats'} another row exactly: each counts "
            "as if it were an independent run"
        )
    if "loss" in columns and columns["loss"].max() > LARGEST_LOSS:
        found.append(
            f"loss is up to {columns['loss'].max():.4g}, more than any guess costs in nats a token: is this a "
            "perplexity? its logarithm is a loss"
        )
    found.extend(_rising(columns))
    return tuple(found)


def unit_question(name: str, values: np.ndarray) -> list[str]:
    """A question where parameters, tokens or FLOPs were most likely written in millions or billions."""
    least, most = float(values.min()), float(values.max())
    if name == "flops":
        asked = f"flops is at most {most:g}: is it in PF-days or in 1e18? flops are counted one by one here"
        return [asked] if most < SMALLEST_FLOPS else []
    if most < SMALLEST_COUNT:
        told = f"at most {most:g}"
    elif name == "params" and least < SMALLEST_PARAMS:
        told = f"as low as {least:g}"
    else:
        return []
    unit = "billions" if name != "params" or least < 1 else "millions"
    return [f"{name} is {told}: is it in {unit}? {name} are counted one by one here"]


def _duplicates(columns: Mapping[str, np.ndarray]) -> int:
    # A repeated (params, tokens) with another loss is a second seed; the same loss to the last digit is a copy.
    numbers = [columns[name] for name in columns if name not in NO_NUMBERS]
    if not numbers:
        return 0
    stacked = np.stack(numbers, axis=1)
    return int(stacked.shape[0] - np.unique(stacked, axis=0).shape[0])


def _rising(columns: Mapping[str, np.ndarray]) -> list[str]:
    """A plane through log loss over log params and log tokens: a slope upward beyond its error is named."""
    if "loss" not in columns or columns["loss"].min() <= 0:
        return []
    names = [
        n for n in ("params", "tokens") if n in columns and columns[n].min() > 0 and np.ptp(columns[n]) > 0
    ]
    rows = columns["loss"].size
    if not names or rows < len(names) + 3:
        return []
    x = np.stack([np.log(columns[name]) for name in names], axis=1)
    design = np.column_stack([np.ones(rows), x - x.mean(axis=0)])
    response = np.log(columns["loss"])
    solution, _, rank, _ = np.linalg.lstsq(design, response, rcond=None)
    if rank < design.shape[1]:
        return []
    residual = response - design @ solution
    variance = float(residual @ residual) / (rows - design.shape[1])
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    return [
        f"loss rises with {name} (log-log slope {slope:+.3g} with standard error {error:.1g}): "
        "a law in which loss falls does not describe it"
        for name, slope, error in zip(names, solution[1:], errors[1:], strict=True)
        if slope > 2.0 * error and slope > 1e-9
    ]
