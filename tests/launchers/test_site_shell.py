"""No field of a site file is more than a value: whatever it holds, a generated script runs nothing of it.

Every field of every engine is drawn with what a shell would obey. What is refused, is refused in a line; what is
taken, runs in a real bash, where a marker must not appear.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from experiments.scaling import ScalingRule
from launchers.engines.jobset import JobSetOptions, jobset
from launchers.engines.skypilot import SkyPilotOptions, manifest
from launchers.local.devices import Place
from launchers.local.launch import LocalOptions, Worker
from launchers.site import from_table
from launchers.slurm.batch import plan_arrays, render
from launchers.slurm.options import Resources, SlurmOptions, slurm_options
from training.spec import RunSpec

MARKER = "BROKEN"
TOUCH = f"touch${{IFS}}{MARKER}"
ATTACKS = (
    f"cuda;{TOUCH};:",
    f"$({TOUCH})",
    f"`{TOUCH}`",
    f"a\n{TOUCH}\n",
    f"a\r\n{TOUCH}",
    f"'; {TOUCH}; '",
    f'"; {TOUCH}; "',
    f"|{TOUCH}",
    f"&&{TOUCH}",
    f"||{TOUCH}",
    f"&{TOUCH}&",
    f">{MARKER}",
    f"a>{MARKER}",
    f"<({TOUCH})",
    f"a\t;{TOUCH}",
    f"${{x:-$({TOUCH})}}",
    f"#\n{TOUCH}",
    f"\\\n{TOUCH}",
    f"EOF\n{TOUCH}",
    f"{{{{setup}}}};{TOUCH}",
    f"data=2;{TOUCH}",
    f"4:00:00;{TOUCH}",
    f"16G;{TOUCH}",
    f"s3://x;{TOUCH}",
    f"--qos=x;{TOUCH}",
    f"~/$({TOUCH})",
    f"a=$({TOUCH})",
    "*",
    "!!",
    f"s3://x/$({TOUCH})",
    f"--wrap={TOUCH}",
    f"image`{TOUCH}`",
    f"x\u2028{TOUCH}",
    f"x\u0085{TOUCH}",
    f"x\x0b{TOUCH}",
)
STUBS = """
srun() { :; }; sbatch() { :; }; squeue() { echo GONE; }; scontrol() { :; }; python() { :; }; python3() { return 1; }
mkdir() { :; }; exec() { :; }; sleep() { :; }
export JAX_PLATFORMS
"""
# They are shell by contract (setup), or words of a command that the user chose (container, quoted one by one).
SHELL = {"setup"}


def runs_of(seeds: int = 1) -> list[RunSpec]:
    rule = ScalingRule()
    return rule.trunk_and_branches(0, (65_536, 131_072), 0, rule.shape(16, 2))


def a_run() -> RunSpec:
    return next(spec for spec in runs_of() if spec.parent is None)


def valid(value: Any, attack: str) -> Any:
    """An attack in the form of a field: alone, or in a list."""
    return [attack] if isinstance(value, tuple) else attack


def fields_of(kind: type) -> list[dataclasses.Field]:
    return [
        field for field in dataclasses.fields(kind) if field.name not in SHELL and field.name != "resources"
    ]


def nothing_is_run(script: str) -> None:
    """Run a script with harmless stand-ins for all that it calls; nothing that it was given may be called."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "script.sh")
        path.write_text(STUBS + script)
        inside = Path(folder, "inside")
        inside.mkdir()
        assert subprocess.run(["bash", "-n", str(path)], capture_output=True, check=False).returncode == 0, (
            script
        )
        subprocess.run(
            ["bash", str(path)],
            cwd=inside,
            env={**os.environ, "SLURM_ARRAY_TASK_ID": "0", "HOME": folder},
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert not list(Path(folder).rglob(f"{MARKER}*")), script
        assert not Path(__file__).resolve().parents[2].joinpath(MARKER).exists(), script


def slurm_script(site: dict[str, Any], folder: Path) -> str:
    options = slurm_options(site, {})
    array = plan_arrays([a_run()], options, 10)[0]
    (folder / "runs.txt").write_text(f"{a_run().run_id}\n")
    return render(array, options, folder, folder, folder / "cache", options.python or "python")


def skypilot_script(table: dict[str, Any]) -> str:
    options = from_table(SkyPilotOptions, {"bucket": "s3://runs", **table}, "skypilot")
    (tree,) = yaml.safe_load_all(manifest([[a_run()]], "sweep", options))
    return tree["run"]


def jobset_words(table: dict[str, Any]) -> list[str]:
    options = from_table(JobSetOptions, {"image": "image", **table}, "jobset")
    tree = yaml.safe_load(jobset([a_run()], "sweep", options))
    pod = tree["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    return pod["containers"][0]["command"]


@pytest.mark.parametrize(
    "field", [*fields_of(SlurmOptions), *fields_of(Resources)], ids=lambda field: field.name
)
def test_a_field_of_slurm_runs_nothing(field, tmp_path):
    """Alone, with GPUs, and in a table of resources that this run is given."""
    taken = 0
    for attack in ATTACKS:
        value = valid(field.default, attack)
        sites = [{"gpus": 1, field.name: value}, {field.name: value}]
        if field.name in {known.name for known in dataclasses.fields(Resources)}:
            sites.append({"resources": [{"params_above": 1.0, "gpus": 1, field.name: value}]})
        for site in sites:
            try:
                script = slurm_script(site, tmp_path)
            except BadInput:
                continue
            taken += 1
            nothing_is_run(script)
    assert taken == 0 or field.name in {"partition", "account", "python", "container", "options"}


TEXTS = st.sampled_from(ATTACKS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(
    lambda text: f"{text};{TOUCH};:"
)


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_all_fields_at_once_run_nothing(data, tmp_path_factory):
    """Several fields of one site file, each with what its own check lets pass."""
    site: dict[str, Any] = {"gpus": data.draw(st.integers(0, 2))}
    for field in [*fields_of(SlurmOptions), *fields_of(Resources)]:
        if not isinstance(field.default, str | tuple):
            continue
        value = valid(field.default, data.draw(TEXTS))
        try:
            slurm_options({**site, field.name: value}, {})
        except BadInput:
            continue
        site[field.name] = value
    nothing_is_run(slurm_script(site, tmp_path_factory.mktemp("site")))


@pytest.mark.parametrize("field", fields_of(SkyPilotOptions), ids=lambda field: field.name)
def test_a_field_of_skypilot_runs_nothing(field):
    for attack in ATTACKS:
        try:
            script = skypilot_script({field.name: valid(field.default, attack)})
        except BadInput:
            continue
        nothing_is_run(script)


@settings(deadline=None, max_examples=40)
@given(cache=TEXTS)
@example(cache=f"cuda;{TOUCH};:")
def test_a_cache_of_skypilot_is_one_word(cache):
    nothing_is_run(skypilot_script({"cache": cache}))


@pytest.mark.parametrize("field", fields_of(JobSetOptions), ids=lambda field: field.name)
def test_a_field_of_a_jobset_is_in_no_command(field):
    """A JobSet has no shell: its words are given to the program as they stand."""
    plain = jobset_words({})
    for attack in ATTACKS:
        try:
            words = jobset_words({field.name: valid(field.default, attack)})
        except BadInput:
            continue
        assert words == plain


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_local_worker_is_started_without_a_shell(attack, tmp_path, monkeypatch):
    """Here there is no site file; what flags hold reaches the worker as words of its own."""
    started: list[Any] = []

    class Process:
        def __init__(self, command, **keywords):
            started.append((command, keywords))
            self.stdin = self.stdout = sys.__stdin__

    monkeypatch.setattr(subprocess, "Popen", Process)
    Worker(
        0,
        Place("core 0", {"JAX_PLATFORMS": "cpu"}),
        tmp_path / "0.log",
        LocalOptions(Path(attack), mesh=attack),
    )
    ((command, keywords),) = started
    assert isinstance(command, list) and attack in command
    assert not keywords.get("shell")
