"""From runs to sbatch arrays: order, chunks, throttles, and a script that nothing in a name or a path breaks out of."""

import dataclasses
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.codec import from_json, to_json
from core.errors import BadInput
from experiments.scaling import ScalingRule
from experiments.spec import Sweep
from launchers.site import read_site
from launchers.slurm.batch import array_range, plan_arrays, render
from launchers.slurm.options import (
    OPTION_VALUE,
    Resources,
    SlurmOptions,
    seconds_of,
    slurm_options,
)
from training.cost import training_flops
from training.spec import RunSpec


def families(seeds: int = 2, sizes: tuple[int, ...] = (16, 32)) -> list[RunSpec]:
    rule = ScalingRule()
    return [
        spec
        for width in sizes
        for seed in range(seeds)
        for spec in rule.trunk_and_branches(0, (65_536, 131_072), seed, rule.shape(width, 2))
    ]


@settings(deadline=None, max_examples=30)
@given(
    seeds=st.integers(1, 4),
    most=st.integers(1, 9),
    throttle=st.integers(0, 4),
    above=st.sampled_from([0.0, 20_000.0]),
    pack=st.integers(1, 4),
)
def test_arrays_hold_every_run_once_and_trunks_come_first(seeds, most, throttle, above, pack):
    specs = families(seeds)
    shapes = (Resources(),) + ((Resources(cpus=2, params_above=above),) if above else ())
    options = SlurmOptions(throttle=throttle, resources=shapes)
    arrays = plan_arrays(specs, options, most, lambda spec: pack)
    sent = [run for array in arrays for run in array.runs]
    assert sorted(sent) == sorted(spec.run_id for spec in specs)
    by_id = {spec.run_id: spec for spec in specs}
    place = {run: index for index, array in enumerate(arrays) for run in array.runs}
    reach: list[set[int]] = []
    for index, array in enumerate(arrays):
        assert 1 <= len(array.elements) <= most
        assert all(1 <= len(element) <= pack for element in array.elements)
        assert all(earlier < index for earlier in array.after)
        reach.append({*array.after, *(further for earlier in array.after for further in reach[earlier])})
        costs = [sum(training_flops(by_id[run]) for run in element) for element in array.elements]
        assert costs == sorted(costs, reverse=True)
        for run in array.runs:
            parent = by_id[run].parent
            assert parent is None or place[parent] in array.after
    if throttle:  # of one shape, no two arrays can ever be at work at once: the throttle holds for the shape
        for one in range(len(arrays)):
            for two in range(one):
                if arrays[one].resources == arrays[two].resources:
                    assert two in reach[one]


def test_a_branch_whose_trunk_is_sent_already_names_it():
    trunk, *branches = families(seeds=1, sizes=(16,))
    (array,) = plan_arrays(branches, SlurmOptions(), 1001)
    assert array.parents == (trunk.run_id,)
    assert not array.after


def test_larger_runs_get_what_the_site_file_says_for_them(tmp_path):
    site = tmp_path / "site.toml"
    site.write_text(
        'partition = "gpu"\ntime = "2:00:00"\ngpus = 1\nthrottle = 8\nsetup = ["module load cuda"]\n'
        '[[resources]]\nparams_above = 1e8\ngpus = 8\ntime = "1-0"\n'
    )
    options = slurm_options(read_site(site), {"account": "lab", "throttle": None, "time": None})
    assert options.shape_for(10_000_000) == Resources(gpus=1, time="2:00:00")
    assert options.shape_for(200_000_000) == Resources(gpus=8, time="1-0", params_above=1e8)
    assert (options.partition, options.account, options.throttle) == ("gpu", "lab", 8)
    assert slurm_options(read_site(site), {"throttle": 2}).throttle == 2


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("4:00:00", 14_400),
        ("1-12", 129_600),
        ("1-12:30", 131_400),
        ("0-0:0:5", 5),
    ],
)
def test_times_as_sbatch_reads_them(time, seconds):
    assert seconds_of(time) == seconds


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ({"partitions": "x"}, ["partitions", "partition"]),
        ({"throttle": "many"}, ["throttle='many'", "whole number"]),
        ({"throttle": -1}, ["throttle=-1"]),
        ({"partition": "a b"}, ["partition='a b'"]),
        ({"partition": "a\n#SBATCH --uid=0"}, ["partition"]),
        ({"account": "--uid=0"}, ["account"]),
        ({"options": ["--qos=a b"]}, ["--qos=a b"]),
        ({"options": ["rm"]}, ["options='rm'"]),
        ({"options": "--qos=a"}, ["options", "list of texts"]),
        ({"setup": ["a\nb"]}, ["one line"]),
        ({"time": "soon"}, ["time='soon'"]),
        ({"time": "3"}, ["time=3", "210 seconds"]),
        ({"memory": "lots"}, ["memory='lots'"]),
        ({"nodes": 0}, ["nodes=0"]),
        ({"mesh": "data=2;id"}, ["mesh='data=2;id'", "data=2,fsdp=8"]),
        ({"resources": [{"gpus": 1}]}, ["params_above"]),
        ({"resources": {"gpus": 1}}, ["[[resources]]"]),
        ({"resources": [{"params_above": 1.0, "colour": 1}]}, ["colour"]),
        ({"checkpoint_seconds": 0}, ["checkpoint_seconds=0"]),
    ],
)
def test_a_wrong_site_file_is_refused_by_key_and_value(site, words):
    with pytest.raises(BadInput) as caught:
        slurm_options(site, {})
    for word in words:
        assert word in str(caught.value)


def test_several_processes_of_one_run_are_told_where_they_meet(tmp_path):
    site = {"nodes": 2, "tasks_per_node": 4, "gpus": 4, "mesh": "data=2,fsdp=4"}
    options = slurm_options(site, {"tasks_per_node": None})
    array = plan_arrays(families(1), options, 10)[0]
    text = render(array, options, tmp_path, tmp_path, tmp_path, "python")
    assert {"#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4", "#SBATCH --gpus-per-node=4"} <= set(
        text.splitlines()
    )
    assert "--mesh data=2,fsdp=4 --distributed\n" in text
    alone = plan_arrays(families(1), SlurmOptions(), 10)[0]
    assert "--distributed" not in render(alone, SlurmOptions(), tmp_path, tmp_path, tmp_path, "python")


def test_a_missing_or_broken_site_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_site(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("x = = 1")
    with pytest.raises(BadInput, match="not readable as TOML"):
        read_site(tmp_path / "bad.toml")


def test_folders_that_slurm_would_interpret_are_refused(tmp_path):
    array = plan_arrays(families(1), SlurmOptions(), 10)[0]
    for name in ("50%", "a\nb", "back\\slash"):
        with pytest.raises(BadInput, match="Slurm needs a folder"):
            render(array, SlurmOptions(), tmp_path / name, tmp_path, tmp_path, "python")


# Whatever a path, an interpreter or a container word can hold, but what is refused above.
NAMES = st.text(
    st.characters(exclude_characters="\0\r\n%\\", exclude_categories=["Cs"]), min_size=1, max_size=40
)
EVIL = st.sampled_from(
    [
        "$(touch BROKEN)",
        "`touch BROKEN`",
        "'; touch BROKEN; '",
        '"; touch BROKEN; "',
        "a b",
        "-n",
        "{{setup}}",
        "# x",
    ]
    + ["&& touch BROKEN", "${IFS}", "*", "~", "!!", "|touch BROKEN", ">BROKEN"]
)
STUBS = """
srun() {{ shift 3; printf '%s\\0' "$@" >"$RECORD"; return 0; }}
sed() {{ command sed "$@"; }}
"""


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    folder=NAMES | EVIL,
    python=NAMES | EVIL,
    words=st.lists(NAMES | EVIL, max_size=3),
    pack=st.sampled_from([1, 2]),
)
def test_nothing_breaks_out_of_the_template(folder, python, words, pack):
    """The script runs in bash with a stub for srun, which must receive exactly the words that were meant."""
    with tempfile.TemporaryDirectory() as root:
        folder = folder.replace("/", "_")
        sweep = Path(root) / "runs" / (f"x{folder}" if folder in (".", "..") else folder)
        batch = sweep / "slurm" / "001"
        try:
            batch.mkdir(parents=True)
        except OSError:  # longer than a file name may be
            return
        array = plan_arrays(families(pack), SlurmOptions(), 10, lambda spec: pack)[0]
        (batch / "runs.txt").write_text("".join(f"{' '.join(element)}\n" for element in array.elements))
        options = SlurmOptions(container=tuple(words))
        text = render(array, options, batch, sweep, sweep / "cache", python)
        for line in text.splitlines():
            if line.startswith("#SBATCH"):
                assert len(shlex.split(line)) == 2
        record = Path(root) / "record"
        script = Path(root) / "script.sh"
        script.write_text(STUBS.format() + text)
        empty = Path(root) / "empty"
        empty.mkdir()
        done = subprocess.run(
            ["bash", str(script)],
            cwd=empty,
            env={**os.environ, "SLURM_ARRAY_TASK_ID": "1", "RECORD": str(record), "HOME": root},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        program = "training.run" if pack == 1 else "training.pack"
        assert record.read_bytes().decode().split("\0")[:-1] == [
            *words,
            python,
            "-m",
            program,
            *(str(sweep / run) for run in array.elements[1]),
            "--cache",
            str(sweep / "cache"),
            "--checkpoint-seconds",
            "60",
            "--lock-patience-seconds",
            "90",
            "--cores",
            "1",
        ]
        assert not list(empty.iterdir())
        assert {path.name for path in Path(root).iterdir()} == {"runs", "record", "script.sh", "empty"}
        assert not (Path(__file__).resolve().parents[2] / "BROKEN").exists()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20))
def test_a_value_in_a_batch_option_is_one_word(value):
    if OPTION_VALUE.fullmatch(value):
        assert shlex.split(f"#SBATCH --partition={value}", comments=False) == [
            "#SBATCH",
            f"--partition={value}",
        ]


@pytest.mark.parametrize(
    "parent", ["../../x", "/etc", "..", ".hidden", "a/b", "-rf", "", "a b", "a\nb", "x" * 300]
)
def test_a_parent_that_is_a_path_is_refused(parent):
    _, branch, _ = families(seeds=1, sizes=(16,))
    with pytest.raises(BadInput, match="parent="):
        from_json(RunSpec, {**to_json(branch), "parent": parent})


def test_settings_keep_branches_with_their_trunks():
    sweep = Sweep(families()).with_settings({"optim.learning_rate": "0.5", "data.validation_tokens": "8192"})
    names = {spec.run_id for spec in sweep}
    parents = [spec.parent for spec in sweep if spec.parent is not None]
    assert len(sweep) == len(families()) and len(parents) == 8
    assert set(parents) <= names
    assert not set(parents) & {spec.run_id for spec in families()}


def test_an_array_of_one_and_of_many():
    assert array_range(1, 0) == "0-0"
    assert array_range(12, 4) == "0-11%4"
    assert dataclasses.replace(Resources(), gpus=4).tasks == 1


# What Slurm would say and do, for the end of the script alone; each call is one line of $RECORD.
ENGINE = """
srun() { return "$STATUS"; }
sleep() { [ "$1" != 600 ] || exit 0; }
squeue() { echo "squeue $*" >>"$RECORD"; [ "$(wc -l <"$RECORD")" -gt 2 ] && echo "$STATE"; }
scontrol() { echo "scontrol $*" >>"$RECORD"; [ "$(grep -c scontrol "$RECORD")" -gt 1 ]; }
"""


@pytest.mark.parametrize(
    ("status", "state", "restarts", "requeued", "ends"),
    [
        (75, "RUNNING", 0, True, 0),  # a time limit, or a preemption with grace
        (143, "RUNNING", 3, True, 0),
        (
            75,
            "COMPLETING",
            0,
            False,
            75,
        ),  # scancel, or a preemption without grace, which Slurm brings back itself
        (75, "RUNNING", 500, False, 1),
        (1, "RUNNING", 0, False, 1),
        (0, "RUNNING", 0, False, 0),
    ],
)
def test_only_what_was_stopped_and_still_runs_is_requeued_and_only_this_element(
    tmp_path, status, state, restarts, requeued, ends
):
    """A controller that answers at the third time of asking, and an element that carries its array's own number."""
    array = plan_arrays(families(1), SlurmOptions(), 10)[0]
    (tmp_path / "runs.txt").write_text("".join(f"{run}\n" for run in array.runs))
    script, record = tmp_path / "script.sh", tmp_path / "record"
    record.touch()
    script.write_text(
        ENGINE + render(array, SlurmOptions(), tmp_path, tmp_path / "sweep", tmp_path / "cache", "python")
    )
    slurm = {"SLURM_JOB_ID": "40", "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "1"}
    stub = {"RECORD": str(record), "STATUS": str(status), "STATE": state}
    environment = {**os.environ, **slurm, **stub, "SLURM_RESTART_COUNT": str(restarts)}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ends, done.stderr
    calls = record.read_text().splitlines()
    assert calls.count("scontrol requeue 40_1") == (2 if requeued else 0)
    assert all("40_1" in call for call in calls)
