"""The plans of the shipped experiments, pinned: a changed default shows up in review as a changed line.

After a change that is meant, write them anew: python -m tests.experiments.test_golden_plans
"""

import json
from pathlib import Path

import pytest

from core.codec import to_json
from experiments import registry
from experiments.spec import Sweep
from training.cost import parameter_count, training_flops

GOLDEN = Path(__file__).resolve().parent / "golden"

# (experiment, preset): every shipped one at its defaults and at each preset.
PLANS = [(name, preset) for name in registry.names() for preset in (None, *sorted(registry.load(name).presets))]


def plan(name: str, preset: str | None) -> list[str]:
    """One line a run: its name, parameters, FLOPs and every field."""
    experiment = registry.load(name)
    sweep: Sweep = experiment.sweep(**(experiment.presets[preset] if preset else {}))
    return [
        json.dumps(
            {
                "run": run.run_id,
                "params": parameter_count(run),
                "flops": training_flops(run),
                "spec": to_json(run),
            },
            sort_keys=True,
        )
        for run in sweep
    ]


def path_of(name: str, preset: str | None) -> Path:
    """The file of a plan: a preset that changes no argument has that of the defaults."""
    if preset and not registry.load(name).presets[preset]:
        return path_of(name, None)
    return GOLDEN / f"{name}{'.' + preset if preset else ''}.jsonl"


@pytest.mark.parametrize(("name", "preset"), PLANS)
def test_a_shipped_plan_is_what_it_was(name, preset):
    assert plan(name, preset) == path_of(name, preset).read_text().splitlines()


@pytest.mark.parametrize(("name", "preset"), PLANS)
def test_every_experiment_says_what_it_claims_costs_and_expects(name, preset):
    docstring = registry.load(name).docstring
    for word in ("Claim", "Run", "Cost", "Expect"):
        assert f"\n{word} " in docstring


def test_no_golden_plan_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == {path_of(name, preset).name for name, preset in PLANS}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.jsonl"):
        old.unlink()
    for name, preset in PLANS:
        path_of(name, preset).write_text("\n".join(plan(name, preset)) + "\n")
