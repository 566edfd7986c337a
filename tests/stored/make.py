"""Makes the stored sweep by the code of commit b3a5d7f: what later code must read, resume and branch from.

    git worktree add OLD b3a5d7f
    cd tests/stored
    export PYTHONPATH=OLD JAX_PLATFORMS=cpu
    python make.py train     # corpus/, runs/stored/ and golden/third_branch.json, from nothing
    python make.py trim      # removes what no reader needs, and names of the machine
    python make.py golden    # golden/, by the commands in commands.json, on a copy
    python make.py finals    # golden/final.json, each run trained twice on copies

Do not make it again with later code: then it would only say that a version agrees with itself. No run may
start on this folder itself, or its logs would change; work on copies. The corpus is named relative to the
working directory, so every command runs in the folder that holds corpus/ and runs/.
"""

import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data.config import DataConfig
from model.config import ModelConfig
from training.config import OptimConfig, RunSpec, from_json, to_json

COMMIT = "b3a5d7f"
HERE = Path(__file__).resolve().parent
SWEEP = Path("runs/stored")
CACHE = Path("cache")
GOLDEN = HERE / "golden"
TASKS = ("induction:length=8",)
SHAPES = ((8, 1), (12, 1), (16, 1), (20, 1), (16, 2), (32, 1))  # width, depth
# Of fit.json, what says which law was found: without residuals and draws, which are most of it.
KEPT_OF_FIT = ("law", "robust", "space", "n", "objective", "parameters", "identified", "derived", "warnings")
COMMANDS = json.loads((HERE / "commands.json").read_text())


def write_corpus(path: Path, documents: int = 280, seed: int = 7) -> None:
    """About 110 kB drawn from a random table of which letter follows which, one document a line of JSON."""
    chance = random.Random(seed)
    letters = "etaoinshrdlucmfwypvb .,\n"
    common = [1.0 / (rank + 3) for rank in range(len(letters))]
    following = {
        letter: [chance.gammavariate(0.3, 1.0) * weight for weight in chance.sample(common, len(common))]
        for letter in letters
    }

    def document() -> str:
        text = [chance.choice(letters)]
        for _ in range(chance.randrange(300, 490)):
            text += chance.choices(letters, following[text[-1]])
        return "".join(text)

    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"text": document() + "\n"}) + "\n" for _ in range(documents)))


def spec(width: int, depth: int, tokens: int, **changes: Any) -> RunSpec:
    """A run of the grid: 512 tokens a step, learning rate by size, cooled down over the last fifth or so."""
    model = ModelConfig(width=width, depth=depth, heads=width // 4, kv_heads=width // 4, scan=False)
    count = 256 * width + depth * (4 * width**2 + 3 * width * model.resolved_ff_width)
    optim = OptimConfig(
        learning_rate=round(8e-3 * (count / 1e5) ** -0.4, 4), warmup_tokens=1024, cooldown_tokens=tokens // 4
    )
    base = RunSpec(
        model=model,
        data=DataConfig(corpus="text:corpus", sequence_length=32, validation_tokens=4096),
        optim=optim,
        tokens=tokens,
        batch_tokens=512,
        evaluation_marks=(tokens // 2,),
    )
    return dataclasses.replace(base, **changes)


def branch(trunk: RunSpec, tokens: int, **changes: Any) -> RunSpec:
    """A longer run whose first part is the trunk's."""
    start = trunk.tokens
    optim = dataclasses.replace(trunk.optim, cooldown_tokens=tokens // 4)
    own: dict[str, Any] = {"optim": optim, "parent": trunk.run_id, "branch_at_tokens": start}
    own["evaluation_marks"] = ()
    return spec(trunk.model.width, trunk.model.depth, tokens, **{**own, **changes})


def sweep() -> dict[str, list[RunSpec]]:
    """Every run by the way in which it is trained; "later" is the third branch, which is not trained here."""
    trunk = spec(8, 1, 12288, evaluation_marks=(), checkpoint_marks=(12288,))
    trunk = dataclasses.replace(trunk, optim=dataclasses.replace(trunk.optim, cooldown_tokens=0))
    scored: dict[str, Any] = {"tasks": TASKS, "task_items": 40, "evaluation_marks": ()}
    alone = [spec(8, 1, 8192)]
    for width, depth in SHAPES[1:]:
        alone += [spec(width, depth, 8192), spec(width, depth, 16384), spec(width, depth, 32768, **scored)]
    packed = [spec(16, 1, 8192, seed=seed) for seed in (2, 3)]
    packed[1] = dataclasses.replace(
        packed[1], optim=dataclasses.replace(packed[1].optim, learning_rate=0.02, weight_decay=0.05)
    )
    mup = spec(16, 1, 16384, seed=4)
    shape = dataclasses.replace(mup.model, parametrization="mup", base_width=8, base_depth=1, base_head_width=4)
    optim = dataclasses.replace(mup.optim, learning_rate=0.03, decay="independent", weight_decay=8e-4)
    return {
        "trunk": [trunk],
        "alone": [
            *alone,
            branch(trunk, 16384),
            branch(trunk, 32768, **scored),
            branch(trunk, 65536),
            dataclasses.replace(mup, model=shape, optim=optim),
        ],
        "packed": packed,
        "stopped": [spec(8, 1, 32768, seed=1, evaluation_marks=(8192,))],
        "later": [branch(trunk, 18432)],
    }


def command(module: str, *runs: RunSpec, create: bool = True) -> list[str]:
    """The command line that trains runs on one core."""
    words = [sys.executable, "-m", module, *(str(SWEEP / run.run_id) for run in runs)]
    words += ["--cache", str(CACHE), "--cores", "1"]
    for run in runs if create else ():
        words += ["--spec", json.dumps(to_json(run))]
    return words


def stop_in_the_middle(run: RunSpec) -> None:
    """SIGTERM while the run evaluates at its first mark: it saves after the next step, and ends with 75."""
    process = subprocess.Popen(command("training.run", run))
    log = SWEEP / run.run_id / "metrics.jsonl"
    mark = f'"tokens": {run.evaluation_marks[0]},'
    while not (log.exists() and mark in log.read_text()):
        assert process.poll() is None, "ended before it could be stopped"
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75


def train() -> None:
    """From nothing to all runs; two at a time."""
    write_corpus(Path("corpus/text.jsonl"))
    kinds = sweep()
    subprocess.run(command("training.run", *kinds["trunk"]), check=True)
    subprocess.run(command("training.pack", *kinds["packed"]), check=True)
    stop_in_the_middle(kinds["stopped"][0])
    waiting = list(kinds["alone"])
    while waiting:
        two = [subprocess.Popen(command("training.run", run)) for run in waiting[:2]]
        assert all(process.wait() == 0 for process in two)
        waiting = waiting[2:]
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "third_branch.json").write_text(json.dumps(to_json(kinds["later"][0]), indent=1) + "\n")


def trim() -> None:
    """Keep the checkpoints of the trunk's marks and of the stopped run; take names of this machine out."""
    shutil.rmtree(CACHE, ignore_errors=True)
    for folder in sorted(SWEEP.iterdir()):
        run = from_json(RunSpec, json.loads((folder / "spec.json").read_text()))
        for path in (folder / "checkpoints").glob("[0-9]*"):
            if (folder / "result.json").exists() and int(path.name) not in run.checkpoint_marks:
                shutil.rmtree(path)
        if not any((folder / "checkpoints").glob("[0-9]*")):
            shutil.rmtree(folder / "checkpoints")
        for path in [*folder.glob(".lock"), *folder.glob(".lease.*")]:
            path.unlink()
        for path in folder.glob("checkpoints/**/commit_success.txt"):
            path.write_text(path.read_text().replace(f"{HERE}/", ""))
        environment = json.loads((folder / "env.json").read_text())
        for attempt in environment["attempts"]:
            attempt["host"] = "stored"
        (folder / "env.json").write_text(json.dumps(environment, indent=1) + "\n")


def copied(into: str) -> Path:
    """A copy of corpus and runs, to work on."""
    for name in ("corpus", "runs"):
        shutil.copytree(HERE / name, Path(into) / name)
    return Path(into)


def golden() -> None:
    """What the commands print and write, on a copy."""
    code = Path(str(sys.modules["training.config"].__file__)).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(folder)
        for entry in COMMANDS:
            words = [str(code / word) if word == "launch.py" else word for word in entry["command"]]
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, *words], cwd=copy, capture_output=True, text=True, check=False
            )
            print(f"{time.monotonic() - began:.1f} s, status {done.returncode}: {' '.join(entry['command'])}")
            assert done.returncode == entry.get("status", 0), done.stderr
            if "stdout" in entry:
                (GOLDEN / entry["stdout"]).write_text(done.stdout)
            for name in entry.get("files", ()):
                shutil.copy(copy / name, GOLDEN / Path(name).name)
    for path in GOLDEN.glob("fit_*.json"):
        fit = json.loads(path.read_text())
        path.write_text(json.dumps({key: fit[key] for key in KEPT_OF_FIT}, indent=1) + "\n")


def processor() -> dict[str, Any]:
    """What decides the last bits beside the code: the processor, and the compiler that comes with JAX."""
    import importlib.metadata

    text = Path("/proc/cpuinfo").read_text()
    fields = dict(re.findall(r"^(\S[^\t\n]*?)\s*: (.*)$", text.split("\n\n")[0], re.M))
    flags = [flag for flag in fields["flags"].split() if re.match("avx|sse|ssse|fma|f16c|bmi|amx", flag)]
    return {
        "jax": importlib.metadata.version("jax"),
        "jaxlib": importlib.metadata.version("jaxlib"),
        "vendor": fields["vendor_id"],
        "family": fields["cpu family"],
        "model": fields["model"],
        "name": fields["model name"],
        "flags": sorted(flags),
    }


def trained(run: RunSpec, create: bool) -> dict[str, Any]:
    """How a run ends that is trained on a fresh copy: final evaluations, and losses of the last steps."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(folder)
        subprocess.run(command("training.run", run, create=create), cwd=copy, check=True)
        return ending(copy / SWEEP / run.run_id)


def ending(directory: Path) -> dict[str, Any]:
    """Every number that must come again: written by json, which gives each float back to the bit."""
    result = json.loads((directory / "result.json").read_text())
    metrics = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    evals = [json.loads(line) for line in (directory / "evals.jsonl").read_text().splitlines()]
    return {
        "run": result["run"],
        "attempts": result["attempts"],
        "train_loss": result["train_loss"],
        "evals": {row["name"]: row["value"] for row in evals if row["tokens"] == result["tokens"]},
        "metrics": [[row["tokens"], row["loss"], row["grad_norm"]] for row in metrics[-8:]],
    }


def finals() -> None:
    """final.json: the stopped run at its end, and the third branch; each twice, which must agree to the bit."""
    kinds = sweep()
    result: dict[str, Any] = {"commit": COMMIT, "processor": processor()}
    for name, kind, create in (("resumed", "stopped", False), ("third_branch", "later", True)):
        run = kinds[kind][0]
        once, twice = trained(run, create), trained(run, create)
        assert once == twice, (once, twice)
        words = command("training.run", run, create=create)[1:]
        shown = ["(golden/third_branch.json)" if word.startswith("{") else word for word in words]
        result[name] = {"command": " ".join(["python", *shown]), **once}
    (GOLDEN / "final.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    os.chdir(HERE)
    {"train": train, "trim": trim, "golden": golden, "finals": finals}[sys.argv[1]]()
