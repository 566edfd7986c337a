"""SkyPilot's own parser reads what is generated for it: `make test-skypilot`, in an environment that has skypilot.

Not collected by `make test`: skypilot is no requirement of the project and brings a hundred packages of its own.
"""

from pathlib import Path

import pytest
import sky

GOLDEN = Path(__file__).resolve().parent / "golden"


@pytest.mark.parametrize(
    ("name", "program"), [("skypilot", "training.run"), ("skypilot-packs", "training.pack")]
)
def test_the_golden_file_is_a_pipeline_with_recovery(monkeypatch, name, program):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    dag = sky.utils.dag_utils.load_chain_dag_from_yaml(str(GOLDEN / f"{name}.yaml"))
    assert dag.name.endswith("-family")
    assert len(dag.tasks) == 3
    for task in dag.tasks:
        (resources,) = task.resources
        assert resources.use_spot
        assert resources.accelerators == {"H100": 1}
        assert resources.job_recovery["recover_on_exit_codes"] == [75]
        assert f"{program} /sweeps/study/" in task.run
