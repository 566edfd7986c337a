"""Packs as elements of Slurm arrays: submitted, started, stopped, partly finished, formed anew, named run by run."""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import launch
from core.codec import to_json
from core.errors import BadInput
from core.files import write_json
from experiments.scaling import ScalingRule
from launchers.packs import form_packs, measured_sizes, pack_key, share_evenly
from launchers.slurm import submit as slurm
from launchers.slurm.batch import plan_arrays, render
from launchers.slurm.options import Resources, SlurmOptions, slurm_options
from launchers.slurm.queue import read_manifest
from launchers.status import join_queue, sweep_status
from tests.launchers.test_slurm_batch import families
from tests.support.fake_slurm import FakeSlurm
from training.records import run_lock
from training.spec import RunSpec


def packed(most: int, **fields) -> SlurmOptions:
    return SlurmOptions(resources=(Resources(pack=str(most)),), **fields)


def finish(sweep: Path, run: str) -> None:
    """result.json as far as `status` reads it."""
    (sweep / run).mkdir(parents=True, exist_ok=True)
    spec = sweep / run / "spec.json"
    tokens = json.loads(spec.read_text())["tokens"] if spec.exists() else 1
    result = {"run": run, "tokens": tokens, "evals": {"val/loss": 1.0}}
    (sweep / run / "result.json").write_text(json.dumps(result))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([16, 32]), st.integers(0, 9)), unique=True, max_size=20),
    st.integers(1, 6),
)
def test_every_run_is_in_one_pack_of_its_kind_and_packs_are_even(described, most):
    rule = ScalingRule()
    specs = [rule.run(0, 65_536, seed, model=rule.shape(width, 1)) for width, seed in described]
    packs = form_packs(specs, lambda spec: most)
    assert sorted(spec.run_id for pack in packs for spec in pack) == sorted(spec.run_id for spec in specs)
    counts = Counter(pack_key(spec) for spec in specs)
    for pack in packs:
        assert {pack_key(spec) for spec in pack} == {pack_key(pack[0])}
        assert len(pack) <= most and share_evenly(counts[pack_key(pack[0])], most) - len(pack) in (0, 1)
        assert [spec for spec in specs if spec in pack] == pack
    assert [pack[0] for pack in packs] == [spec for spec in specs if any(pack[0] == spec for pack in packs)]


def the_sweep(seeds: int, sizes: tuple[int, ...]) -> dict[str, RunSpec]:
    return {spec.run_id: spec for spec in families(seeds, sizes)}


# Nothing to be gained from a smaller case of a random walk: no shrinking.
@settings(deadline=None, max_examples=12, phases=(Phase.reuse, Phase.generate))
@given(st.integers(1, 4), st.sampled_from([(16,), (16, 32)]), st.integers(0, 10**9))
def test_whatever_happens_to_elements_each_run_is_trained_by_one_at_a_time_and_only_until_it_is_complete(
    seeds, sizes, chance
):
    """Elements end in any order with any mix of complete, stopped and failed members; `submit` comes in between."""
    specs, trained, draw = the_sweep(seeds, sizes), [], random.Random(chance)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        sweep, queue = Path(folder).resolve() / "sweep", FakeSlurm(patch)

        def complete() -> set[str]:
            return {run for run in specs if (sweep / run / "result.json").exists()}

        def live() -> dict[str, tuple[tuple[int, int], set[str]]]:
            """Of every queued run its job, its element there, and what the job waits for."""
            found = [
                (run, ((job.number, index), set(job.after)))
                for job in queue.jobs.values()
                for index in job.elements
                for run in read_manifest(job.folder)[index]
            ]
            assert len(found) == len(dict(found)), "a run is queued twice"
            return dict(found)

        def submit() -> None:
            before = live()
            most = draw.randint(1, 5)
            done = slurm.submit(sweep, list(specs.values()), packed(most), sweep / "cache")
            new = [run for _, array in done.sent for run in array.runs]
            assert set(new) == set(specs) - set(before) - complete()
            for element in (element for _, array in done.sent for element in array.elements):
                assert len(element) <= most
                assert len({pack_key(specs[run]) for run in element}) == 1
            for run in new:
                parent = specs[run].parent
                if parent is not None and parent in live():
                    (trunk, place), _ = live()[parent]
                    assert live()[run][1] & {f"{trunk}", f"{trunk}_{place}"}
            assert set(done.queued) == set(before)

        submit()
        for _ in range(400):
            if complete() == set(specs):
                break
            startable = queue.startable()
            if not startable or draw.randrange(10) == 0:
                submit()
                continue
            job, index = draw.choice(startable)
            job.elements[index] = "RUNNING"
            left = [run for run in read_manifest(job.folder)[index] if run not in complete()]
            # A branch whose trunk ended without being complete is let go, and refuses to start.
            able = {run: specs[run].parent is None or specs[run].parent in complete() for run in left}
            ends = {
                run: draw.choice(["complete", "complete", "stopped", "failed"]) if able[run] else "failed"
                for run in left
            }
            for run, end in ends.items():
                if end == "complete":
                    trained.append(run)
                    finish(sweep, run)
            if "stopped" in ends.values() and draw.random() < 0.5:
                job.elements[index] = "PENDING"
            else:
                del job.elements[index]
    assert sorted(trained) == sorted(specs), "every run was completed, and once"


def test_status_and_cancel_name_every_run_of_a_pack(tmp_path, monkeypatch):
    queue = FakeSlurm(monkeypatch)
    sweep, specs = tmp_path / "sweep", the_sweep(3, (16,))
    submission = slurm.submit(sweep, list(specs.values()), packed(3), tmp_path / "cache")
    (trunks_job, trunks), (branches_job, branches) = submission.sent
    assert [len(element) for element in trunks.elements] == [3]
    assert [len(element) for element in branches.elements] == [3, 3]
    assert queue.jobs[int(branches_job)].after == (trunks_job,)

    def states() -> dict[str, tuple[str, str]]:
        rows, warning = join_queue(sweep_status(sweep), sweep)
        assert not warning
        return {row.run: (row.state, row.note) for row in rows}

    assert set(states().values()) == {
        ("queued", f"job {job}_{index}: None") for job, index in ((40, 0), (41, 0), (41, 1))
    }
    queue.jobs[40].elements[0] = "RUNNING"
    assert {states()[run] for run in trunks.runs} == {("running", "job 40_0: running")}
    assert {states()[run][0] for run in branches.runs} == {"queued"}

    # One has failed while the others go on: the process of the pack still holds it.
    failed, finished, stopped = trunks.runs
    (sweep / failed / "error.txt").write_text("diverged at step 3\n")
    assert states()[failed][0] == "running"  # an old failure: the element has begun, the run not yet
    with run_lock(sweep / failed):
        assert states()[failed] == ("failed", "diverged at step 3")
    finish(sweep, finished)
    assert states()[finished][0] == "complete"
    assert states()[stopped][0] == "running"

    assert slurm.cancel(sweep) == 9
    assert ["scancel", "40", "41"] in queue.commands
    assert not queue.is_live("40") and not queue.is_live("41")
    assert {states()[run][0] for run in (stopped, *branches.runs)} == {"missing"}

    again = slurm.submit(sweep, list(specs.values()), packed(3), tmp_path / "cache")
    assert again.complete == (finished,)
    assert again.sent[0][1].elements == ((failed, stopped),), "a pack of what is left"
    del queue.jobs[int(again.sent[0][0])].elements[0]
    assert states()[failed][0] == "failed"
    assert states()[stopped][0] == "lost"


def test_a_branch_pack_waits_for_each_queued_element_of_its_trunks_once(tmp_path, monkeypatch):
    queue = FakeSlurm(monkeypatch)
    sweep, specs = tmp_path / "sweep", the_sweep(4, (16,))
    trunks = [spec for spec in specs.values() if spec.is_trunk]
    slurm.submit(sweep, trunks, packed(2), tmp_path / "cache")
    done = slurm.submit(sweep, list(specs.values()), packed(4), tmp_path / "cache")
    ((job, array),) = done.sent
    assert [len(element) for element in array.elements] == [4, 4]
    assert queue.jobs[int(job)].after == ("40_0", "40_1")


# srun says what it was given, and the program "trains" what its line of $OUTCOMES says.
STUBS = """
srun() { shift 3; printf '%s\\n' "$@" >"$RECORD"; return "$STATUS"; }
sleep() { [ "$1" != 600 ] || exit 0; }
squeue() { echo RUNNING; }
scontrol() { echo "$*" >"$RECORD.requeued"; }
"""


@pytest.mark.parametrize(
    ("complete", "status", "program", "requeued"),
    [
        ((), 0, "training.pack", False),
        ((), 75, "training.pack", True),
        ((1,), 75, "training.pack", True),
        ((0, 2), 0, "training.run", False),
        ((0, 1, 2), 0, "", False),
    ],
)
def test_an_element_trains_what_is_left_of_its_pack(tmp_path, complete, status, program, requeued):
    specs = [spec for spec in families(3, (16,)) if spec.is_trunk]
    sweep, batch = tmp_path / "a sweep", tmp_path / "a sweep" / "slurm" / "001"
    (array,) = plan_arrays(specs, packed(3), 10, lambda spec: 3)
    slurm.write_batch(batch, array, packed(3), sweep, tmp_path / "cache")
    (runs,) = array.elements
    for index in complete:
        finish(sweep, runs[index])
    script, record = tmp_path / "script.sh", tmp_path / "record"
    script.write_text(STUBS + (batch / "array.sh").read_text())
    slurm_names = {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "0"}
    environment = {**os.environ, **slurm_names, "RECORD": str(record), "STATUS": str(status)}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = [str(sweep / run) for index, run in enumerate(runs) if index not in complete]
    if not program:
        assert not record.exists() and done.stdout == f"{' '.join(runs)}: already complete\n"
        return
    words = record.read_text().splitlines()
    assert words[1 : 3 + len(left)] == ["-m", program, *left]
    assert words[3 + len(left)] == "--cache"
    assert Path(f"{record}.requeued").exists() == requeued


@pytest.mark.parametrize("content", ["", '{"run": ', "[]", '{"run": "RUN", "tokens": 65536, "evals": {}}', "3"])
def test_a_result_that_does_not_count_is_named_and_the_run_trained(tmp_path, content):
    (spec, *_) = [spec for spec in families(1, (16,)) if spec.is_trunk]
    sweep, batch = tmp_path / "sweep", tmp_path / "sweep" / "slurm" / "001"
    (array,) = plan_arrays([spec], SlurmOptions(), 10)
    slurm.write_batch(batch, array, SlurmOptions(), sweep, tmp_path / "cache")
    finish(sweep, spec.run_id)
    (sweep / spec.run_id / "result.json").write_text(content.replace("RUN", spec.run_id))
    script, record = tmp_path / "script.sh", tmp_path / "record"
    script.write_text(STUBS + (batch / "array.sh").read_text())
    slurm_names = {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "0"}
    environment = {**os.environ, **slurm_names, "RECORD": str(record), "STATUS": "0"}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert str(sweep / spec.run_id) in record.read_text().splitlines()
    assert f"{sweep / spec.run_id / 'result.json'}: " in done.stderr


def test_given_up_names_every_run(tmp_path):
    specs = [spec for spec in families(2, (16,)) if spec.is_trunk]
    (array,) = plan_arrays(specs, packed(2), 10, lambda spec: 2)
    text = render(array, packed(2), tmp_path, tmp_path / "sweep", tmp_path, sys.executable)
    (tmp_path / "runs.txt").write_text(f"{' '.join(array.runs)}\n")
    (tmp_path / "script.sh").write_text(STUBS + text)
    slurm_names = {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": "500"}
    environment = {**os.environ, **slurm_names, "RECORD": str(tmp_path / "record"), "STATUS": "75"}
    done = subprocess.run(
        ["bash", str(tmp_path / "script.sh")], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {' '.join(array.runs)}: stopped 500 times and is not done; submit again to go on\n",
    )


def kept(cache: Path, name: str, spec: RunSpec, rates: dict[int, float], **changes) -> None:
    """A measurement as training/packs/size.py keeps it."""
    import importlib.metadata

    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax")}
    key = {
        "model": to_json(spec.model),
        "sequence_length": spec.data.sequence_length,
        "batch_tokens": spec.batch_tokens,
        "microbatch_tokens": 0,
        "decay_all": False,
        "device": "Device X",
        "devices": 1,
        "cpus": None,
        "versions": versions,
    }
    write_json(cache / "pack" / f"{name}.json", {"key": {**key, **changes}, "rates": rates, "ended": "gain"})


def test_auto_takes_what_was_measured_before_and_packs_nothing_without(tmp_path):
    runs = [spec for spec in families(8, (16,)) if spec.is_trunk]
    assert (
        measured_sizes(runs, "auto", 0, tmp_path).lines[0].startswith("packs: off, they gain nothing on a CPU")
    )
    unknown = measured_sizes(runs, "auto", 1, tmp_path)
    assert unknown(runs[0]) == 1 and "16x2: off, not measured yet on 1 accelerators" in unknown.lines[0]
    kept(tmp_path, "a", runs[0], {1: 100.0, 2: 190.0, 4: 350.0, 8: 600.0})
    assert measured_sizes(runs, "auto", 1, tmp_path)(runs[0]) == 8
    assert measured_sizes(runs, "auto", 1, tmp_path).lines == (
        "packs: 16x2: packs of 8, as measured on 1 x Device X",
    )
    assert measured_sizes(runs, "auto", 1, tmp_path, at_once=4)(runs[0]) == 2  # work for four at once
    assert measured_sizes(runs, "auto", 1, tmp_path)(families(1, (32,))[0]) == 1
    assert measured_sizes(runs, "auto", 8, tmp_path)(runs[0]) == 1
    kept(tmp_path, "b", runs[0], {1: 100.0, 2: 190.0, 4: 195.0}, device="Device Y")
    assert measured_sizes(runs, "auto", 1, tmp_path)(runs[0]) == 2
    for name, change in (("c", {"cpus": 2}), ("d", {"versions": {}}), ("e", {"batch_tokens": 1})):
        kept(tmp_path, name, runs[0], {1: 100.0, 2: 100.0}, **change)
    assert measured_sizes(runs, "auto", 1, tmp_path)(runs[0]) == 2
    assert measured_sizes(runs, 5, 1, tmp_path)(runs[0]) == 5
    assert measured_sizes(runs, 1, 1, tmp_path)(runs[0]) == 1
    assert measured_sizes(runs[:1], 5, 1, tmp_path)(runs[0]) == 1


def test_each_size_has_its_own_packs_and_a_mesh_has_none(tmp_path):
    site = {"pack": 8, "resources": [{"params_above": 2e4, "pack": "off"}, {"params_above": 5e4, "nodes": 2}]}
    options = slurm_options(site, {"pack": None})
    assert [shape.pack for shape in options.resources] == ["8", "off", "8"]
    specs = families(2, (16, 32, 48))
    sizes = slurm.pack_sizes(specs, options, tmp_path)
    assert {spec.model.width: sizes(spec) for spec in specs} == {16: 2, 32: 1, 48: 1}
    everywhere = slurm_options(site, {"pack": "2"})
    assert {shape.pack for shape in everywhere.resources} == {"2"}


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ({"pack": 0}, "pack=0: must be auto, off or a whole number of runs, at least 1"),
        ({"pack": "many"}, "pack=many: must be auto, off or a whole number of runs, at least 1"),
        ({"pack": True}, "pack=True: must be text"),
        (
            {"pack": 4, "nodes": 2},
            "pack=4: 2 processes a run is for runs that train alone; must be auto or off",
        ),
        (
            {"pack": 4, "mesh": "data=2"},
            "pack=4: mesh=data=2 is for runs that train alone; must be auto or off",
        ),
    ],
)
def test_a_wrong_pack_in_the_site_file(site, message):
    with pytest.raises(BadInput) as caught:
        slurm_options(site, {})
    assert str(caught.value) == message


def test_submit_writes_packs(tmp_path, capsys):
    flags = ["submit", "quickstart", "--backend", "slurm", "--dry-run", "--runs", str(tmp_path), "--sizes", "1"]
    flags += ["--tokens", "65536", "131072", "--seeds", "3", "--cache", str(tmp_path / "cache")]
    assert launch.main([*flags, "--pack", "3", "--json"]) == 0
    trunks, branches = json.loads(capsys.readouterr().out)["arrays"]
    assert [len(array["elements"]) for array in (trunks, branches)] == [1, 2]
    assert [len(array["runs"]) for array in (trunks, branches)] == [3, 6]
    (line,) = (Path(trunks["script"]).parent / "runs.txt").read_text().splitlines()
    assert line.split(" ") == trunks["elements"][0]
    assert "#SBATCH --array=0-1\n" in Path(branches["script"]).read_text()
    assert launch.main([*flags, "--pack", "3"]) == 0
    said = capsys.readouterr().out
    assert (
        "would send 3 runs as 1 elements: " in said
        and "would send 6 branches as 2 elements, after array 1: " in said
    )
    assert launch.main(flags) == 0
    assert "would send 3 runs: " in (said := capsys.readouterr().out)
    assert said.startswith("packs: off, they gain nothing on a CPU")
    with pytest.raises(SystemExit) as caught:
        launch.main([*flags, "--pack", "some"])
    assert caught.value.code == 2
    assert (
        capsys.readouterr().err
        == "error: --pack=some: must be auto, off or a whole number of runs, at least 1\n"
    )
