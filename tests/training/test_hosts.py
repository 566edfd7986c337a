"""Which process this is: from arguments, from Slurm's variables, and refused where neither says."""

import pytest

from core.errors import BadInput
from training.processes.hosts import Membership, first_host, from_arguments, from_environment
from training.run import main

# What srun sets in a task (Slurm 23.11, man srun, "OUTPUT ENVIRONMENT VARIABLES").
STEP = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node001", "node001"),
        ("node001,host2", "node001"),
        ("node[001-0015],host2", "node001"),
        ("node[007,011-015],host2", "node007"),
        ("rack1-n[3,5]-ib,x", "rack1-n3-ib"),
    ],
)
def test_the_first_host_of_a_node_list(nodes, first):
    assert first_host(nodes) == first


def test_a_task_of_srun_finds_its_place():
    assert from_environment(STEP) == Membership("gpu07:61441", 2, 1, None)


def test_an_address_that_is_given_goes_before_slurms_first_host():
    assert from_environment(STEP | {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:99"}).coordinator == "10.0.0.1:99"


@pytest.mark.parametrize(
    ("tasks", "local", "visible", "devices"),
    [
        ("1(x2)", "0", "0,1,2,3", None),
        ("4(x2)", "3", "0,1,2,3", (3,)),
        ("2(x2)", "1", "0,1,2,3", (2, 3)),
        ("4(x2)", "3", "0", None),
        ("4(x2)", "3", "", None),
    ],
)
def test_tasks_of_a_host_share_the_gpus_that_all_of_them_see(tasks, local, visible, devices):
    variables = {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_LOCALID": local, "CUDA_VISIBLE_DEVICES": visible}
    assert from_environment(STEP | variables).devices == devices


def test_more_tasks_than_gpus_are_refused():
    variables = {"SLURM_STEP_TASKS_PER_NODE": "4", "CUDA_VISIBLE_DEVICES": "0,1"}
    with pytest.raises(BadInput, match=r"SLURM_STEP_TASKS_PER_NODE=4: more tasks than the 2 GPUs"):
        from_environment(STEP | variables)


def test_a_batch_script_without_srun_is_no_step():
    batch = {name: value for name, value in STEP.items() if "STEP" not in name} | {"SLURM_NTASKS": "2"}
    with pytest.raises(BadInput, match="--distributed: this process is neither a task of srun"):
        from_environment(batch)


def test_a_tpu_host_is_left_to_jax():
    assert from_environment({"TPU_WORKER_ID": "3"}).coordinator == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("h:1", None, 0), "--processes: --coordinator, --processes and --process-index go together"),
        (("h:1", 0, 0), "--processes=0: must be at least 1"),
        (("h:1", 2, 2), "--process-index=2: must be from 0 to --processes - 1 = 1"),
        (("h", 2, 0), "--coordinator=h: must be HOST:PORT"),
        (("h:70000", 2, 0), "--coordinator=h:70000: must be HOST:PORT, the port from 1 to 65535"),
    ],
)
def test_impossible_places_are_refused(arguments, words):
    with pytest.raises(BadInput, match=words):
        from_arguments(*arguments)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--processes", "2"], "--coordinator, --process-index: "),
        (
            ["--distributed", "--coordinator", "h:1", "--processes", "1", "--process-index", "0"],
            "takes the place of",
        ),
        (["--join-seconds", "0"], "--join-seconds=0: must be positive"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, capsys, flags, words):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "run"), *flags])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("error: ") and said.count("\n") == 1
