"""Manifests for SkyPilot and Kubernetes: golden files, the published schema's facts, and quoting that nothing escapes.

SkyPilot's own parser reads the golden file in `make test-skypilot` (tests/launchers/skypilot_parser.py).
"""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet
from pydantic import ValidationError

import launch
from core.codec import from_json
from core.errors import BadInput
from data.config import DataConfig
from experiments.scaling import ScalingRule
from launchers.engines.jobset import JobSetOptions, jobset, literal, object_name
from launchers.engines.jobset import write as write_jobsets
from launchers.engines.skypilot import SkyPilotOptions, manifest
from launchers.engines.skypilot import write as write_skypilot
from launchers.manifests import families, quoted, run_command
from launchers.packs import form_packs
from launchers.site import from_table
from training.pack import main as train_pack
from training.records import read_spec
from training.spec import RunSpec

GOLDEN = Path(__file__).resolve().parent / "golden"
TPU = JobSetOptions(
    image="registry.example/scaling:1",
    queue="research",
    accelerator="tpu",
    chips=4,
    node_selector=(
        "cloud.google.com/gke-tpu-accelerator=tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology=2x2",
    ),
)
GPU = JobSetOptions(image="registry.example/scaling:1", queue="research", namespace="lab", chips=8)
SKY = SkyPilotOptions(bucket="s3://my-runs", accelerators="H100:1")


def family(corpus: str = "pysource", seed: int = 0) -> list[RunSpec]:
    rule = ScalingRule(data=DataConfig(corpus=corpus))
    return rule.trunk_and_branches(0, (65_536, 131_072), seed, rule.shape(16, 2))


def alone(specs: list[RunSpec]) -> list[list[RunSpec]]:
    return [[spec] for spec in specs]


def two_of_each() -> list[list[RunSpec]]:
    """A trunk and two branches, each a pack of two seeds."""
    return [list(pack) for pack in zip(family(seed=0), family(seed=1), strict=True)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("skypilot.yaml", manifest(alone(family()), "study", SKY)),
        ("skypilot-packs.yaml", manifest(two_of_each(), "study", SKY)),
        ("jobset-tpu.yaml", jobset(family()[:1], "study", TPU)),
        ("jobset-gpu.yaml", jobset(family()[1:2], "study", GPU)),
        ("jobset-gpu-pack.yaml", jobset(two_of_each()[1], "study", GPU)),
    ],
)
def test_manifests_are_the_golden_ones(name, text):
    """A change shows as a diff of the golden file: write the new text there once it is meant."""
    assert text == (GOLDEN / name).read_text()


@settings(deadline=None)
@given(st.text() | st.integers() | st.booleans())
def test_yaml_reads_back_what_was_quoted(value):
    assert yaml.safe_load(quoted(value)) == value
    assert yaml.safe_load(f"- {quoted(value)}\n- last") == [value, "last"]
    assert yaml.safe_load(f"{quoted(str(value))}: 1") == {str(value): 1}


def test_a_manifest_holds_no_number_that_is_not_whole():
    with pytest.raises(TypeError, match=r"1\.5"):
        quoted(1.5)


ANY_TEXT = st.text(max_size=12)
ANY_LINE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


def filled(strategy: dict[str, st.SearchStrategy], kind: type) -> st.SearchStrategy:
    """Options of `kind`, every field drawn: a field that is added later fails here until it is drawn too."""
    assert set(strategy) == {field.name for field in dataclasses.fields(kind)}
    return st.builds(kind, **strategy)


SKYPILOT = filled(
    {
        "bucket": st.from_regex(r"(s3|gs)://[A-Za-z0-9][A-Za-z0-9._/-]{0,20}", fullmatch=True),
        "accelerators": ANY_TEXT,
        "cpus": ANY_TEXT,
        "use_spot": st.booleans(),
        "max_restarts_on_errors": st.integers(0, 10**6),
        "setup": st.lists(ANY_TEXT, max_size=3).map(tuple),
        "cache": ANY_TEXT,
        "pack": st.sampled_from(["auto", "off", "3"]),
    },
    SkyPilotOptions,
)
JOBSET = filled(
    {
        "image": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,20}", fullmatch=True),
        "claim": LABEL,
        "queue": LABEL | st.just(""),
        "namespace": LABEL | st.just(""),
        "accelerator": st.sampled_from(["cpu", "gpu", "tpu"]),
        "chips": st.integers(1, 2**31 - 1),
        "node_selector": st.lists(
            st.from_regex(r"[A-Za-z0-9./_-]{1,9}=[A-Za-z0-9._-]{0,9}", fullmatch=True),
            max_size=3,
            unique_by=lambda label: label.split("=")[0],
        ).map(tuple),
        "max_restarts": st.integers(0, 2**31 - 1),
        "grace_seconds": st.integers(1, 2**31 - 1),
        "pack": st.sampled_from(["auto", "off", "3"]),
    },
    JobSetOptions,
)


@settings(deadline=None, max_examples=100)
@given(SKYPILOT, ANY_LINE, ANY_LINE)
def test_every_field_of_a_skypilot_file_reads_back(options, sweep, corpus):
    specs = family(f"text:{corpus}")
    named, *tasks = yaml.safe_load_all(manifest(alone(specs), sweep, options))
    assert named == {"name": f"{tasks[0]['name']}-family"}
    for spec, task in zip(specs, tasks, strict=True):
        assert task["resources"] == {
            "use_spot": options.use_spot,
            **({"accelerators": options.accelerators} if options.accelerators else {"cpus": options.cpus}),
            "job_recovery": {
                "max_restarts_on_errors": options.max_restarts_on_errors,
                "recover_on_exit_codes": [75],
            },
        }
        assert task["file_mounts"] == {"/sweeps": {"source": options.bucket, "mode": "MOUNT_CACHED"}}
        assert task["setup"] == "\n".join(options.setup)
        assert task["run"].startswith("mkdir" if options.accelerators else "export JAX_PLATFORMS=cpu\nmkdir")
        command = shlex.split(task["run"].partition("\nexec ")[2])
        directory = f"/sweeps/{sweep}/{spec.run_id}"
        assert command[:-1] == ["python", "-m", "training.run", directory, "--cache", options.cache, "--spec"]
        assert from_json(RunSpec, json.loads(command[-1])) == spec


@settings(deadline=None, max_examples=100)
@given(JOBSET, ANY_LINE, ANY_LINE)
def test_every_field_of_a_jobset_reads_back(options, sweep, corpus):
    specs = family(f"text:{corpus}")[:1]
    tree = yaml.safe_load(jobset(specs, sweep, options))
    assert official(tree) == tree
    metadata = tree["metadata"]
    assert metadata.get("namespace", "") == options.namespace
    assert metadata.get("labels", {}).get("kueue.x-k8s.io/queue-name", "") == options.queue
    assert metadata["annotations"] == {"scaling-experiments/run": f"{sweep}/{specs[0].run_id}"}
    assert tree["spec"]["failurePolicy"]["maxRestarts"] == options.max_restarts
    pod = tree["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == options.grace_seconds
    assert [f"{name}={value}" for name, value in pod.get("nodeSelector", {}).items()] == list(
        options.node_selector
    )
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": options.claim}
    (container,) = pod["containers"]
    assert container["image"] == options.image
    platform, device = {
        "cpu": ("cpu", None), "gpu": ("cuda", "nvidia.com/gpu"), "tpu": ("tpu", "google.com/tpu"),
    }[options.accelerator]  # fmt: skip
    assert container["env"] == [{"name": "JAX_PLATFORMS", "value": platform}]
    assert container.get("resources") == (None if device is None else {"limits": {device: options.chips}})
    command = [word.replace("$$", "$") for word in container["command"]]
    assert command[:4] == ["python", "-m", "training.run", f"/data/runs/{sweep}/{specs[0].run_id}"]
    assert from_json(RunSpec, json.loads(command[-1])) == specs[0]


def test_kubernetes_expands_nothing():
    assert literal("$(HOME) $x") == "$$(HOME) $$x"


def official(tree: dict[str, Any]) -> dict[str, Any]:
    """What the official models of the JobSet API (kubeflow-trainer-api) understand of it: they check the type of every
    value and leave out the keys that they do not know."""
    return JobsetV1alpha2JobSet.from_dict(tree).to_dict()


@pytest.mark.parametrize("name", ["jobset-tpu.yaml", "jobset-gpu.yaml", "jobset-gpu-pack.yaml"])
def test_a_jobset_follows_the_published_schema(name):
    tree = yaml.safe_load((GOLDEN / name).read_text())
    assert (tree["apiVersion"], tree["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert official(tree) == tree
    with pytest.raises(ValidationError):
        official({**tree, "spec": {**tree["spec"], "replicatedJobs": "one"}})
    unknown = {**tree, "spec": {**tree["spec"], "colour": "blue"}}
    assert official(unknown) != unknown
    policy = tree["spec"]["failurePolicy"]
    assert policy["rules"][0]["action"] in ("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts")
    job = tree["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["completionMode"] in ("Indexed", "NonIndexed")
    # A pod failure policy needs restartPolicy Never, and 0 must not stand in the list of an In operator.
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [1, 2]


def test_object_names_are_kubernetes_names_and_unique():
    rule = ScalingRule()
    specs = [
        rule.run(0, tokens, seed, model=rule.shape(1024, 24)) for tokens in (1e6, 1.5e9) for seed in (0, 1)
    ]
    names = [object_name(pack) for pack in (*alone(specs), specs, [specs[1]] * 64)]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(f"{name}-train-0-0") <= 63
        assert (
            name == name.lower()
            and name[0].isalpha()
            and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        )


def test_trunks_and_branches_lie_apart(tmp_path):
    paths = write_jobsets(tmp_path, "s", family(), TPU, tmp_path)
    assert [path.parent.name for path in paths] == ["1-runs", "2-branches", "2-branches"]


def test_a_pack_is_one_job_on_every_engine(tmp_path):
    specs = [spec for seed in range(3) for spec in family(seed=seed)]
    paths = write_jobsets(tmp_path / "jobset", "s", specs, dataclasses.replace(TPU, pack="2"), tmp_path)
    assert sorted(path.parent.name for path in paths) == ["1-runs"] * 2 + ["2-branches"] * 4
    trees = [yaml.safe_load(path.read_text()) for path in paths]
    runs = [tree["metadata"]["annotations"]["scaling-experiments/run"].split() for tree in trees]
    assert sorted(run for some in runs for run in some) == sorted(f"s/{spec.run_id}" for spec in specs)
    for tree, some in zip(trees, runs, strict=True):
        (container,) = tree["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
        assert container["command"][2] == ("training.pack" if len(some) == 2 else "training.run")
    (path,) = write_skypilot(tmp_path / "sky", "s", specs[:6], dataclasses.replace(SKY, pack="2"), tmp_path)
    named, *tasks = yaml.safe_load_all(path.read_text())
    assert path.name == f"{specs[0].run_id}-pack2.yaml" and named["name"].endswith("-pack2-family")
    assert [task["run"].count("--spec") for task in tasks] == [2, 2, 2]
    assert f"/{specs[0].run_id} " in tasks[0]["run"] and f"/{specs[3].run_id} " in tasks[0]["run"]
    assert SKY.devices == 1 and dataclasses.replace(SKY, accelerators="H100:8").devices == 8
    assert dataclasses.replace(SKY, accelerators="").devices == 0


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(5)), st.integers(1, 5), st.integers(1, 5))
def test_a_file_of_skypilot_holds_whatever_hangs_together(order, trunks, branches):
    """Packs of trunks and of branches cut differently: every trunk lies before its branches, in the same file."""
    specs = [spec for seed in order for spec in family(seed=seed)]
    packs = form_packs(specs, lambda spec: trunks if spec.is_trunk else branches)
    files = families(packs)
    assert sorted(spec.run_id for file in files for pack in file for spec in pack) == sorted(
        spec.run_id for spec in specs
    )
    for file in files:
        seen: set[str] = set()
        for pack in file:
            assert all(spec.parent is None or spec.parent in seen for spec in pack)
            seen |= {spec.run_id for spec in pack}
    if trunks == branches == 1:
        assert [[pack[0] for pack in file] for file in files] == [family(seed=seed) for seed in order]


def test_the_command_of_a_pack_makes_its_directories(tmp_path, capsys):
    specs = two_of_each()[0]
    _, _, program, *words = run_command("python", str(tmp_path), str(tmp_path / "cache"), specs)
    assert program == "training.pack"
    with pytest.raises(SystemExit):
        train_pack([*words[:-2], "--cores", "9999"])
    assert "--spec: given 1 times for 2 runs" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        train_pack(
            [*words, "--cores", "9999"]
        )  # refused after the directories are there, before anything is trained
    assert caught.value.code == 2
    assert [read_spec(tmp_path / spec.run_id) for spec in specs] == specs


@pytest.mark.parametrize(
    ("kind", "table", "words"),
    [
        (SkyPilotOptions, {}, ["skypilot.bucket=''"]),
        (SkyPilotOptions, {"bucket": "s3://x y"}, ["skypilot.bucket"]),
        (SkyPilotOptions, {"bucket": "s3://x", "colour": 1}, ["colour"]),
        (SkyPilotOptions, {"bucket": "s3://x", "pack": "all"}, ["skypilot.pack=all"]),
        (JobSetOptions, {"image": "x", "pack": 0}, ["jobset.pack=0"]),
        (SkyPilotOptions, {"bucket": "s3://x", "use_spot": "yes"}, ["use_spot='yes'", "true or false"]),
        (JobSetOptions, {}, ["jobset.image=''"]),
        (JobSetOptions, {"image": "x", "queue": "A B"}, ["jobset.queue='A B'"]),
        (JobSetOptions, {"image": "x", "accelerator": "abacus"}, ["abacus", "gpu"]),
        (JobSetOptions, {"image": "x", "node_selector": ["a"]}, ["LABEL=VALUE"]),
        (JobSetOptions, {"image": "x", "chips": 0}, ["chips=0"]),
    ],
)
def test_wrong_tables_of_the_site_file(kind, table, words):
    with pytest.raises(BadInput) as caught:
        from_table(kind, table, "engine")
    for word in words:
        assert word in str(caught.value)


def test_they_are_written_and_never_sent(tmp_path, capsys):
    site = tmp_path / "site.toml"
    site.write_text('[jobset]\nimage = "x"\n')
    command = [
        "submit",
        "quickstart",
        "--backend",
        "jobset",
        "--sizes",
        "1",
        "--runs",
        str(tmp_path),
        "--site",
        str(site),
    ]
    with pytest.raises(SystemExit) as caught:
        launch.main(command)
    assert caught.value.code == 2 and "--dry-run" in capsys.readouterr().err
    assert launch.main([*command, "--dry-run"]) == 0
    written = [path.parent.name for path in (tmp_path / "quickstart" / "jobset").rglob("*.yaml")]
    assert set(written) == {"1-runs", "2-branches"}
    packs = [*command, "--dry-run", "--seeds", "3", "--pack", "3", "--name", "packed"]
    assert launch.main(packs) == 0
    assert len(list((tmp_path / "packed" / "jobset").rglob("*-pack3.yaml"))) == 1 + 5
    with pytest.raises(SystemExit):
        launch.main(["submit", "quickstart", "--backend", "pigeon"])
    assert "pigeon" in capsys.readouterr().err
