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

import launch
from core.codec import from_json
from core.errors import BadInput
from data.config import DataConfig
from experiments.scaling import ScalingRule
from launchers.jobset import JobSetOptions, jobset, jobset_options, literal, object_name
from launchers.jobset import write as write_jobsets
from launchers.manifests import families, run_command, to_yaml
from launchers.packs import form_packs
from launchers.skypilot import SkyPilotOptions, manifest, skypilot_options
from launchers.skypilot import write as write_skypilot
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
        ("jobset-tpu.yaml", to_yaml(jobset(family()[:1], "study", TPU))),
        ("jobset-gpu.yaml", to_yaml(jobset(family()[1:2], "study", GPU))),
        ("jobset-gpu-pack.yaml", to_yaml(jobset(two_of_each()[1], "study", GPU))),
    ],
)
def test_manifests_are_the_golden_ones(name, text):
    """A change shows as a diff of the golden file: write the new text there once it is meant."""
    assert text == (GOLDEN / name).read_text()


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TREES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8), TREES, max_size=4))
def test_yaml_reads_back_as_what_was_written(tree):
    assert yaml.safe_load(to_yaml(tree)) == tree


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1, max_size=40))
def test_no_corpus_name_escapes_from_a_manifest(name):
    corpus = f"text:{name}"
    specs = family(corpus)
    (container,) = jobset(specs[:1], "s", TPU)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"][
        "spec"
    ]["containers"]
    text = container["command"][-1].replace("$$", "$")
    assert from_json(RunSpec, json.loads(text)) == specs[0]
    task = list(yaml.safe_load_all(manifest(alone(specs), "s", SKY)))[1]
    command = shlex.split(task["run"].splitlines()[-1].removeprefix("exec "))
    assert from_json(RunSpec, json.loads(command[-1])) == specs[0]


def test_kubernetes_expands_nothing():
    assert literal("$(HOME) $x") == "$$(HOME) $$x"


# From the CustomResourceDefinition of kubernetes-sigs/jobset (Apache-2.0) at commit 0107852,
# config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml, and from batch/v1 Job and v1 Pod of the Kubernetes API
# reference: the keys that may stand at each place, and the values that an enumeration allows.
ALLOWED = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {
        "coordinator",
        "failurePolicy",
        "managedBy",
        "network",
        "replicatedJobs",
        "startupPolicy",
        "successPolicy",
        "suspend",
        "ttlSecondsAfterFinished",
    },
    "spec.failurePolicy": {"maxRestarts", "restartStrategy", "rules"},
    "spec.failurePolicy.rules": {"action", "name", "onJobFailureReasons", "targetReplicatedJobs"},
    "spec.replicatedJobs": {"dependsOn", "groupName", "name", "replicas", "template"},
    "spec.replicatedJobs.template": {"metadata", "spec"},
    "spec.replicatedJobs.template.spec": {
        "activeDeadlineSeconds",
        "backoffLimit",
        "backoffLimitPerIndex",
        "completionMode",
        "completions",
        "manualSelector",
        "parallelism",
        "podFailurePolicy",
        "suspend",
        "template",
        "ttlSecondsAfterFinished",
    },
    "spec.replicatedJobs.template.spec.podFailurePolicy": {"rules"},
    "spec.replicatedJobs.template.spec.podFailurePolicy.rules": {"action", "onExitCodes", "onPodConditions"},
    "spec.replicatedJobs.template.spec.podFailurePolicy.rules.onExitCodes": {
        "containerName",
        "operator",
        "values",
    },
    "spec.replicatedJobs.template.spec.template": {"metadata", "spec"},
    "spec.replicatedJobs.template.spec.template.spec": {
        "containers",
        "nodeSelector",
        "restartPolicy",
        "terminationGracePeriodSeconds",
        "tolerations",
        "volumes",
    },
    "spec.replicatedJobs.template.spec.template.spec.containers": {
        "args",
        "command",
        "env",
        "image",
        "name",
        "resources",
        "volumeMounts",
        "workingDir",
    },
}


def walk(value: Any, path: str = ""):
    """(path, mapping) of every mapping, lists looked through."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from walk(item, f"{path}.{key}".strip("."))
    elif isinstance(value, list):
        for item in value:
            yield from walk(item, path)


@pytest.mark.parametrize("name", ["jobset-tpu.yaml", "jobset-gpu.yaml", "jobset-gpu-pack.yaml"])
def test_a_jobset_follows_the_published_schema(name):
    tree = yaml.safe_load((GOLDEN / name).read_text())
    assert (tree["apiVersion"], tree["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    seen = dict(walk(tree))
    for path, allowed in ALLOWED.items():
        assert path in seen or path == ""
        assert set(seen[path]) <= allowed, path
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
    ("make", "table", "words"),
    [
        (skypilot_options, {}, ["skypilot.bucket=''"]),
        (skypilot_options, {"bucket": "s3://x y"}, ["skypilot.bucket"]),
        (skypilot_options, {"bucket": "s3://x", "colour": 1}, ["colour"]),
        (skypilot_options, {"bucket": "s3://x", "pack": "all"}, ["skypilot.pack=all"]),
        (jobset_options, {"image": "x", "pack": 0}, ["jobset.pack=0"]),
        (skypilot_options, {"bucket": "s3://x", "use_spot": "yes"}, ["use_spot='yes'", "true or false"]),
        (jobset_options, {}, ["jobset.image=''"]),
        (jobset_options, {"image": "x", "queue": "A B"}, ["jobset.queue='A B'"]),
        (jobset_options, {"image": "x", "accelerator": "abacus"}, ["abacus", "gpu"]),
        (jobset_options, {"image": "x", "node_selector": ["a"]}, ["LABEL=VALUE"]),
        (jobset_options, {"image": "x", "chips": 0}, ["chips=0"]),
    ],
)
def test_wrong_tables_of_the_site_file(make, table, words):
    with pytest.raises(BadInput) as caught:
        make({"skypilot": table, "jobset": table})
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
