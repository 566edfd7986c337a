"""Public tables that published fits rest on: facts, each with its source and licence in the SOURCE.txt beside it."""

import csv
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def read_rows(relative: str) -> list[dict[str, str]]:
    """Rows of a CSV under this folder."""
    with (HERE / relative).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def load_epoch() -> dict[str, np.ndarray]:
    """245 models of Hoffmann et al. 2022 as Besiroglu et al. 2024 read them off its figure 4; D = FLOP / 6N."""
    rows = read_rows("epoch/svg_extracted_data.csv")
    params, flops, loss = (
        np.array([float(row[name]) for row in rows]) for name in ("Model Size", "Training FLOP", "loss")
    )
    return {"params": params, "tokens": flops / (6 * params), "loss": loss, "flops": flops}


def load_routing() -> dict[str, dict[str, np.ndarray]]:
    """Dense models of Clark et al. 2022 and those with 64 experts, by the number of experts."""
    rows = read_rows("routing/dense_and_64_experts.csv")
    names = {"params": "params", "flops": "flops", "loss": "loss"}
    return {
        count: columns_of([row for row in rows if row["num_experts"] == count], names) for count in ("1", "64")
    }


def load_datablations() -> dict[str, np.ndarray]:
    """182 models of Muennighoff et al. 2023, trained on repeated C4."""
    names = {"params": "params", "tokens": "tokens", "unique_tokens": "unique_tokens", "loss": "val_loss"}
    return columns_of(read_rows("datablations/datablations_c4_182.csv"), names)


def columns_of(rows: list[dict[str, str]], names: dict[str, str]) -> dict[str, np.ndarray]:
    """Float64 columns of rows: our name -> name in the file."""
    return {name: np.array([float(row[header]) for row in rows]) for name, header in names.items()}
