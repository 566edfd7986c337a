"""Any words to any command: it answers, or refuses in one line that says why; never a traceback, never a hang.

Every case is a valid command line with one or two faults: in a flag, in a file that it names, in a sweep that it reads.
Cases run in this process, a few in one of their own. `python -m tests.fuzz.test_commands SEED COUNT` runs others.
"""

import collections
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "tests" / "stored"
STATUSES = {0, 1, 2, 75, 130}
PATIENCE_SECONDS = 60
SHARE_PAST_REFUSALS = 0.3

TEXTS = ["", " ", "-", "--", "é漢字", "a b", "x" * 300, "../x", "/", "a\nb", "\t", "nan", "null", "[]", "{}", "'", '"', "\x1b[31m", "\udce9", "none", "%s", "$HOME", "*"]  # fmt: skip
NUMBERS = ["0", "-1", "1", "0.5", "-0.0", "nan", "inf", "-inf", "1e999", "1e308", "1e-308", "1e-45", "5e-324", "1e18", "10" + "0" * 29, "2147483648", "9223372036854775808", "1e5", "1_000", "0x10", "1e", "1.5", "true", "100k", "1,5", "٣", "9" * 5000]  # fmt: skip
# Fields of a run with values that are right, which the faults replace.
SETTINGS = {
    "model.width": ["32", "64"], "model.depth": ["1", "3"], "model.heads": ["1", "2"], "model.kv_heads": ["1"],
    "model.head_width": ["0", "8"], "model.ff_width": ["0", "24"], "model.vocabulary": ["256", "300"],
    "model.activation": ["gelu", "swiglu"], "model.tied": ["true", "false"], "model.qk_norm": ["false"],
    "model.logit_softcap": ["0", "30"], "model.rope_base": ["10000"], "model.norm_epsilon": ["1e-6"],
    "model.compute_dtype": ["bfloat16"], "model.remat": ["block"], "model.scan": ["true"],
    "model.parametrization": ["mup"], "model.architecture": ["decoder"],
    "data.domain": ["all", "code"], "data.tokenizer": ["byte", "char", "bpe:300", "word:100"],
    "data.sequence_length": ["64", "128"], "data.validation_tokens": ["4096"], "data.unique_tokens": ["0", "65536"],
    "data.skills": ["copying@0.1", "dyck@.05"], "data.skill_tokens": ["100000"],
    "optim.learning_rate": ["0.003", "1e-4"], "optim.beta1": ["0.9", "0"], "optim.beta2": ["0.95", "0.999"],
    "optim.epsilon": ["1e-8"], "optim.weight_decay": ["0", "0.1"], "optim.decay_all": ["true"],
    "optim.clip_norm": ["0", "1"], "optim.decay": ["coupled"], "optim.name": ["adamw"],
    "optim.cooldown_shape": ["linear"], "optim.final_fraction": ["0.1"], "optim.z_loss": ["1e-4"],
    "seed": ["0", "7"], "tasks": ['["copying"]', "[]"], "task_items": ["10"], "objective": ["next_token"],
}  # fmt: skip


class Flag(NamedTuple):
    """A flag and values that are right for it; no values for a switch."""

    name: str
    values: tuple[str, ...] = ()
    kind: str = "text"  # or number, file, out


class Shape(NamedTuple):
    """A command: how it is called, its arguments by place, what it needs and what it may have."""

    call: str
    places: tuple[str, ...]
    needed: tuple[Flag, ...] = ()
    flags: tuple[Flag, ...] = ()
    weight: int = 4


class World:
    """Files that commands read and a place where they write."""

    def __init__(self, folder: Path, chance: random.Random):
        self.folder, self.chance, self.number = folder, chance, 0
        for name in ("corpus", "runs"):
            shutil.copytree(STORED / name, folder / name)
        self.sweep = folder / "runs" / "stored"
        self.out = folder / "out"
        self.out.mkdir()
        self._good()
        self._bad()

    def _good(self) -> None:
        sizes = [(n, d) for n in (1e5, 2e5, 4e5, 8e5, 1.6e6) for d in (1e6, 4e6, 1.6e7, 6.4e7)]
        losses = [1.7 + 40 / n**0.34 + 90 / d**0.30 for n, d in sizes]
        rows = [
            f"{n:.0f},{d:.0f},{loss:.6f},r{i}"
            for i, ((n, d), loss) in enumerate(zip(sizes, losses, strict=True))
        ]
        self.write("table.csv", "\n".join(["params,tokens,loss,run", *rows]))
        lines = [
            json.dumps({"params": n, "tokens": d, "loss": x}) for (n, d), x in zip(sizes, losses, strict=True)
        ]
        self.write("table.jsonl", "\n".join(lines))
        tasks = [f"t{t},params,{10 ** (5 + s / 3):.0f},500,{min(500, 50 + 40 * s * t)},0.1,{seed}"
                 for t in (0, 1) for s in range(10) for seed in (0, 1)]  # fmt: skip
        self.write("tasks.csv", "\n".join(["task,axis,scale,n,correct,chance,seed", *tasks]))
        valleys = [f"{n:.0f},{c / 6 / n:.0f},{1.7 + 40 / n**0.34 + 90 / (c / 6 / n) ** 0.3:.6f}"
                   for c in (1e12, 4e12, 1.6e13) for n in (2e4, 5e4, 1e5, 2e5, 5e5, 1e6)]  # fmt: skip
        self.write("valleys.csv", "\n".join(["params,tokens,loss", *valleys]))
        rule = {"parametrization": "mup", "base_width": 32, "learning_rate_at_base": 0.0055}
        self.write("rule.json", json.dumps({"kind": "scaling rule", "rule": rule}))
        runs = [{"params": 7504, "tokens": 92160, "seed": 0}, {"params": 14288, "tokens": 46080, "seed": 0}]
        self.write("plan.json", json.dumps({"format": 1, "structure": "runs", "runs": runs}))
        self.write("site.toml", 'partition = "long"\ngpus = 1\ntime = "1:00:00"\nsignal_seconds = 60\n'
                   '[[resources]]\nparams_above = 1e8\nnodes = 2\n[skypilot]\nbucket = "s3://b"\n[jobset]\nimage = "i"\n')  # fmt: skip
        self.write(
            "own_tasks.jsonl",
            "\n".join(json.dumps({"prompt": f"{i}+1=", "target": str(i + 1)}) for i in range(20)),
        )
        for words in (
            ["analysis.fit", self.path("table.csv"), "--law", "chinchilla", "--bootstrap", "20", "--out", self.path("fit.json")],
            ["analysis.forecast", self.path("fit.json"), "--params", "1e7", "--tokens", "1e8", "--out", self.path("forecast.json")],
        ):  # fmt: skip
            status, _, err, _ = outcome(words)
            assert status == 0, err

    def _bad(self) -> None:
        (self.folder / "directory").mkdir()
        os.mkfifo(self.folder / "fifo")
        (self.folder / "loop").symlink_to("loop")
        (self.folder / "empty").write_bytes(b"")
        (self.folder / "binary").write_bytes(bytes(range(256)) * 40)
        self.write("deep.json", "[" * 100_000)
        self.write("numbers.json", '{"a": ' + "9" * 6000 + "}")
        for name, value in (
            ("list", [1]),
            ("text", "x"),
            ("null", None),
            ("number", 1e300),
            ("object", {"a": {}}),
        ):
            self.write(f"{name}.json", json.dumps(value))
        self.wrong = [
            self.path(name)
            for name in ("directory", "fifo", "loop", "empty", "binary", "deep.json", "numbers.json", "list.json",
                         "text.json", "null.json", "number.json", "object.json", "missing", "fit.json", "forecast.json",
                         "plan.json", "rule.json", "table.csv", "tasks.csv", "site.toml", "runs/stored", "runs", "empty/x")
        ] + ["x" * 300, ""]  # fmt: skip

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def fresh(self, name: str) -> str:
        self.number += 1
        return str(self.out / f"{self.number}-{name}")

    def good_file(self, name: str) -> str:
        """The path that a word such as @table.csv stands for."""
        if name == "sweep":
            return str(self.sweep)
        if name == "run":
            return str(self.chance.choice(sorted(self.sweep.glob("w*"))))
        return self.fresh("out.json") if name == "out" else self.path(name)

    def spoiled_file(self, name: str) -> str:
        """A file with a fault, or another kind of file."""
        if name == "out":
            # Never a path outside of this folder: commands write there, and tests may run as root.
            return self.path(self.chance.choice(["directory", "loop", "fifo", "empty/x", "x" * 300, "out/new/x", ""]))
        if name == "missing" or self.chance.random() < 0.25:
            return self.chance.choice(self.wrong)
        if name in ("sweep", "run"):
            return self.spoiled_sweep(name)
        text = Path(self.path(name)).read_text(encoding="utf-8")
        return self.write(f"out/{self.number}-{name}", spoiled_text(text, self.chance)) if self._next() else ""

    def _next(self) -> int:
        self.number += 1
        return self.number

    def spoiled_sweep(self, name: str) -> str:
        """A copy of the sweep with one or two files that are wrong."""
        copy = self.out / f"{self._next()}-sweep"
        copy.mkdir()
        for run in sorted(self.sweep.iterdir()):
            (copy / run.name).mkdir()
            for file in run.iterdir():
                if file.is_file():
                    shutil.copy(file, copy / run.name / file.name)
        files = sorted(copy.rglob("*.json*"))
        for path in self.chance.sample(files, self.chance.choice([1, 1, 2])):
            how = self.chance.random()
            if how < 0.1:
                path.unlink()
            elif how < 0.2:
                path.write_bytes(self.chance.choice([b"", b"\xff\xfe", b"[]", b"null", b"{", b"0", b'"x"']))
            else:
                path.write_text(spoiled_text(path.read_text(encoding="utf-8"), self.chance), encoding="utf-8")
        return str(copy if name == "sweep" else self.chance.choice(sorted(copy.iterdir())))


def spoiled_text(text: str, chance: random.Random) -> str:
    """A table, JSON or TOML with one value replaced, a line lost or doubled, or its end torn off."""
    lines = text.split("\n")
    how, place = chance.random(), chance.randrange(len(lines))
    if how < 0.1:
        return text[: chance.randrange(len(text))]
    if how < 0.15:
        lines.insert(place, lines[place])
    elif how < 0.2:
        del lines[place]
    else:
        for mark in (",", ": ", "="):
            if mark in lines[place]:
                cells = lines[place].split(mark)
                cells[chance.randrange(len(cells))] = chance.choice(
                    [*NUMBERS, *TEXTS, "[1]", "{}", "null", '"x"']
                )
                lines[place] = mark.join(cells)
                break
        else:
            lines[place] = chance.choice([*NUMBERS, *TEXTS])
    return "\n".join(lines).encode("utf-8", "replace").decode()


def nearby(text: str, chance: random.Random) -> str:
    """The same text with one digit changed: mostly another right value."""
    places = [place for place, letter in enumerate(text) if letter.isdecimal()]
    place = chance.choice(places) if places else 0
    return f"{text[:place]}{chance.randrange(1, 10)}{text[place + 1 :]}"


def number(name: str, *values: str) -> Flag:
    return Flag(name, values, "number")


def file(name: str, *values: str) -> Flag:
    return Flag(name, values, "file")


COMMON = (
    Flag("--set"),
    Flag("--name", ("own", "größe")),
    file("--runs", "@out"),
    Flag("--corpus", ("text:@corpus", "pysource")),
)
OF_GRIDS = (number("--seeds", "1", "2"), number("--tokens", "65536", "131072 262144"), Flag("--no-trunk"))
PLANS = (
    number("--workers", "1", "2"), number("--cores-per-worker", "1"), Flag("--pack", ("auto", "off", "4")),
    Flag("--device", ("NVIDIA_H100",)), file("--throughput", "@missing"), number("--target", "1e15", "1e16"),
    number("--noise", "0.01"), file("--prior", "@fit.json"), Flag("--device-memory", ("80GiB", "1TiB")),
    Flag("--mesh", ("data=2", "fsdp=2,data=1")), number("--price", "2.5"), Flag("--json"),
)  # fmt: skip
SUBMITS = (
    Flag("--backend", ("slurm", "skypilot", "jobset")), file("--site", "@site.toml"), Flag("--partition", ("gpu",)),
    Flag("--account", ("me",)), Flag("--time", ("60", "2:00:00")), number("--gpus", "0", "1"), number("--nodes", "1", "2"),
    number("--tasks", "1"), number("--cpus", "2"), number("--throttle", "4"), Flag("--pack", ("off", "2")),
    number("--checkpoint-seconds", "60"), Flag("--json"),
)  # fmt: skip
STUDIES: dict[str, tuple[Flag, ...]] = {
    "quickstart": (number("--sizes", "2", "5"), file("--rule", "@rule.json"), *OF_GRIDS),
    "chinchilla": (number("--params", "1e4 3e4", "2e4"), number("--most-flops", "0", "1e13"), number("--batch-tokens", "1024", "2048"), number("--sequence-length", "64"), Flag("--preset", ("cpu", "h100")), *OF_GRIDS),
    "isoflop": (number("--budgets", "1e11 2e11"), number("--step", "1.6"), number("--tokens-per-param", "30"), number("--sizes", "4"), file("--rule", "@rule.json")),
    "kaplan": (number("--params", "1e4 3e4"), *OF_GRIDS),
    "data_constrained": (number("--unique-tokens", "32768 0"), number("--params", "1.1e4"), *OF_GRIDS),
    "depth_width": (number("--params", "3.4e4"), number("--depths", "1 2"), *OF_GRIDS),
    "tokenizer": (Flag("--tokenizers", ("byte char", "bpe:512")), number("--budgets", "1e11"), number("--widths", "32"), number("--characters", "256")),
    "tune": (number("--widths", "32 64"), number("--rates", "0.001 0.01"), number("--depth", "2"), Flag("--parametrization", ("mup", "standard"))),
    "lr_transfer": (number("--rates", "0.01"), number("--base-width", "64"), number("--depth", "2")),
    "learning_rate": (number("--factors", "0.5 1"), number("--widths", "16 32"), number("--tokens", "65536")),
    "emergence": (number("--widths", "16 32"), number("--depths", "1 2"), number("--items", "10"), number("--evaluations", "2"), Flag("--tasks", ("copying", "dyck")), Flag("--skills", ("copying@0.1",)), number("--learning-rate-exponent", "0", "0.3"), number("--head-width", "0", "8")),
    "forecast": (number("--sizes", "3"), number("--tokens", "65536 131072")),
    "planned": (file("--plan", "@plan.json"), number("--batch-tokens", "1024")),
}  # fmt: skip
TABLE_FLAGS = (
    Flag("--law", ("chinchilla", "kaplan", "power_flops_floor", "overtrained", "data_constrained")),
    Flag("--robust", ("huber", "l1", "l2")), number("--delta", "1e-3"), Flag("--space", ("log", "linear")),
    number("--drop-worst", "0", "2"), number("--bootstrap", "0", "10"), Flag("--cluster", ("run",)), Flag("--wild"),
    number("--level", "0.9"), number("--seed", "1"), Flag("--fix", ("E=1.7", "alpha=0.3")),
    Flag("--column", ("loss=loss", "params=params")), file("--out", "@out"),
)  # fmt: skip
AT = (number("--params", "1e7"), number("--tokens", "1e8"))
COMMANDS = [
    *(Shape(f"launch plan {name}", (), (), (*own, *PLANS, *COMMON)) for name, own in STUDIES.items()),
    *(Shape(f"launch run {name}", (), (Flag("--dry-run"),), (*own, number("--workers", "1"), number("--checkpoint-seconds", "30"), Flag("--profile"), Flag("--pack", ("off",)), *COMMON), 1) for name, own in STUDIES.items()),
    *(Shape(f"launch submit {name}", (), (Flag("--dry-run"), file("--runs", "@out")), (*own, *SUBMITS, *COMMON[:2]), 2) for name, own in list(STUDIES.items())[:6]),
    Shape("launch plan", (), (number("--budget", "1e12", "5e12"), number("--target", "1e14")), (number("--runs-at-most", "8"), number("--seeds", "1", "2"), Flag("--structure", ("runs", "trunks", "auto")), number("--noise", "0.01"), file("--prior", "@fit.json"), number("--tokens-per-param", "20"), file("--out", "@out"), Flag("--json")), 2),
    Shape("launch plan", ("@sweep",), (number("--next", "2"), number("--target", "1e13")), (number("--noise", "0.01"), Flag("--json"), number("--seeds", "1")), 2),
    Shape("launch status", ("@sweep",), (), (Flag("--json"),), 16),
    Shape("launch doctor", ("@sweep",), (), (Flag("--json"), Flag("--no-repair")), 16),
    Shape("launch cancel", ("@sweep",), (), (), 4),
    Shape("launch backfill", ("@missing",), (Flag("--tasks", ("copying", "file:@own_tasks.jsonl")),), (number("--items", "5"),), 2),
    Shape("analysis.fit", ("@table.csv",), (), TABLE_FLAGS, 30),
    Shape("analysis.fit", ("@table.jsonl",), (), TABLE_FLAGS, 10),
    Shape("analysis.fit", ("@sweep",), (), TABLE_FLAGS, 6),
    Shape("analysis.isoflop", ("@valleys.csv",), (file("--out", "@out"), number("--bootstrap", "0", "10")), (Flag("--method", ("parabola", "akima", "hull", "envelope")), number("--level", "0.9"), Flag("--slices", ("auto",)), number("--tolerance", "0.1"), number("--min-points", "4"), number("--noise", "0.01"), number("--seed", "3")), 16),
    Shape("analysis.emergence", ("@tasks.csv",), (number("--bootstrap", "199"),), (file("--out", "@out"), Flag("--axis", ("params", "flops")), number("--w0", "1"), number("--alpha", "0.05"), number("--seed", "1")), 6),
    Shape("analysis.forecast", ("@fit.json",), (*AT, file("--out", "@out")), (Flag("--input", ("unique_tokens=1e8",)), number("--level", "0.8")), 16),
    Shape("analysis.score", ("@forecast.json", "@table.csv"), (file("--out", "@out"),), (number("--tolerance", "0.5"), file("--tally", "@out")), 8),
    Shape("analysis.downstream", ("@fit.json", "@fit.json"), (*AT, file("--out", "@out")), (number("--level", "0.8"), number("--seed", "1")), 6),
    Shape("analysis.learning_rate", ("@sweep",), (), (file("--out", "@out"), file("--rule", "@out")), 10),
    Shape("analysis.task_table", ("@sweep",), (file("--out", "@out"),), (Flag("--score", ("exact_match",)), Flag("--axis", ("tokens", "loss"))), 8),
    Shape("analysis.register", ("@sweep",), (number("--bootstrap", "0", "10"),), (Flag("--law", ("chinchilla", "best")), number("--level", "0.9"), number("--seed", "1")), 4),
    Shape("analysis.report", ("@sweep",), (number("--bootstrap", "0"),), (number("--seed", "1"),), 2),
    Shape("data.cache", (), (Flag("--corpus", ("text:@corpus", "text:@table.jsonl")),), (Flag("--tokenizer", ("byte", "char", "file:@object.json")), Flag("--domain", ("all",)), Flag("--verify"), number("--workers", "1")), 4),
]  # fmt: skip
# Of these only what is refused, and a few of them in a process of their own: they train.
TRAINING = [
    Shape("training.run", ("@missing",), (), (number("--checkpoint-seconds", "9"), number("--cores", "1"), Flag("--mesh", ("data=1",)), number("--processes", "2"), number("--process-index", "0"), Flag("--coordinator", ("localhost:1",)), Flag("--spec", ("{}",)))),
    Shape("training.pack", ("@missing",), (), (number("--checkpoint-seconds", "9"), Flag("--spec", ("{}",)))),
    Shape("launch bench quickstart", (), (number("--seconds", "-1"),), (number("--workers", "1"),)),
    Shape("launch.py status", ("@sweep",)), Shape("launch.py run quickstart", (), (Flag("--dry-run"),), COMMON[:2]),
]  # fmt: skip


def argv(shape: Shape, world: World, faults: int) -> list[str]:
    """A command line of this shape with so many faults."""
    chance = world.chance
    flags = [*shape.needed, *(flag for flag in shape.flags if chance.random() < 2.5 / (len(shape.flags) + 1))]
    chance.shuffle(flags)
    places = list(range(len(shape.places) + len(flags)))
    # A file is more often at fault than a flag: behind it lies most of a command.
    weights = [3 if place < len(shape.places) else 1 for place in places]
    spoiled = set(chance.choices(places, weights, k=faults)) if places else set()
    words = [
        world.spoiled_file(name[1:]) if place in spoiled else world.good_file(name[1:])
        for place, name in enumerate(shape.places)
    ]
    for place, flag in enumerate(flags, len(shape.places)):
        words += flag_words(flag, world, place in spoiled)
    if faults and (not places or chance.random() < 0.05):
        words.insert(
            chance.randrange(len(words) + 1), chance.choice(["--unknown", "--set", "extra", "--json=1", *TEXTS])
        )
    return [*shape.call.split(" "), *(word.replace("\0", "") for word in words)]


def flag_words(flag: Flag, world: World, is_spoiled: bool) -> list[str]:
    chance = world.chance
    if flag.name == "--set":
        key = chance.choice(sorted(SETTINGS))
        value = chance.choice([*NUMBERS, *TEXTS]) if is_spoiled else chance.choice(SETTINGS[key])
        key = f"{key}x" if is_spoiled and chance.random() < 0.1 else key
        return ["--set", f"{key}={value}"]
    if not flag.values:
        return [flag.name, "yes"] if is_spoiled and chance.random() < 0.3 else [flag.name]
    value = chance.choice(flag.values)
    if is_spoiled and (flag.kind == "text" or (flag.kind == "number" and chance.random() < 0.1)):
        return [flag.name, chance.choice([*TEXTS, *NUMBERS, value + "x", value.upper()])]
    if is_spoiled and flag.kind == "number":
        one = chance.choice(NUMBERS) if chance.random() < 0.6 else nearby(value.split(" ")[0], chance)
        return [flag.name, one, *value.split(" ")[1:]]
    if flag.kind == "file":
        name = value.removeprefix("@")
        return [
            flag.name,
            world.spoiled_file(name) if is_spoiled and name != "missing" else world.good_file(name),
        ]
    return [
        flag.name,
        *(word.replace("@", f"{world.folder}/") if ":@" in word else word for word in value.split(" ")),
    ]


class TookTooLong(BaseException):
    """A case that hangs."""


def outcome(words: Sequence[str]) -> tuple[int, str, str, str]:
    """Exit status of a command in this process, what it printed and complained, and the traceback that it ended in."""
    out, err = io.StringIO(), io.StringIO()
    trace, status = "", 0

    def too_long(*_: object) -> None:
        raise TookTooLong

    previous = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = main_of(words[0])(list(words[1:])) or 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except (Exception, TookTooLong):
        trace = traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    return status, out.getvalue(), err.getvalue(), trace


def main_of(name: str) -> Callable[[list[str]], Any]:
    """The function behind `python launch.py` or `python -m NAME`."""
    import importlib

    if name == "data.cache":
        from core.cli import parse
        from core.errors import exit_on_bad_input
        from data import cache

        def build(words: list[str]) -> None:
            with exit_on_bad_input():
                parse(cache.main, words, "python -m data.cache", about=str(cache.__doc__))

        return build
    if name == "launch":
        return importlib.import_module("launch").main
    places = {"analysis.score": "analysis.forecast.score", "analysis.register": "analysis.forecast.register",
              "analysis.forecast": "analysis.forecast.predict", "analysis.fit": "analysis.fit.command",
              "analysis.isoflop": "analysis.isoflop.command", "analysis.emergence": "analysis.emergence.command",
              "analysis.report": "analysis.report.command"}  # fmt: skip
    return importlib.import_module(places.get(name, name)).main


def in_a_process(words: Sequence[str], folder: Path) -> tuple[int, str, str, str]:
    command = ["launch.py", *words[1:]] if words[0].startswith("launch") else ["-m", *words]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True,
                              timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL)  # fmt: skip
    except subprocess.TimeoutExpired:
        return 0, "", "", "TookTooLong"
    err = done.stderr.decode("utf-8", "replace")
    return done.returncode, done.stdout.decode("utf-8", "replace"), err, err if "Traceback" in err else ""


class Found(NamedTuple):
    """A case that ended as none may."""

    why: str
    words: tuple[str, ...]
    detail: str


def judged(words: Sequence[str], ended: tuple[int, str, str, str]) -> Found | None:
    status, out, err, trace = ended
    if trace or "Traceback" in out + err:
        lines = [line.strip() for line in trace.splitlines()]
        where = [
            line for line in lines if line.startswith("File") and str(ROOT) in line and "tests/fuzz" not in line
        ]
        return Found(
            f"{lines[-1][:150] if lines else 'Traceback'} | {where[-1] if where else ''}",
            tuple(words),
            trace or err,
        )
    if status not in STATUSES:
        return Found(f"status {status}", tuple(words), err)
    if status == 2 and len(err.strip().splitlines()) != 1:
        return Found("status 2 without one line", tuple(words), err)
    return None


def cases(world: World, count: int, in_processes: int) -> Iterator[tuple[list[str], tuple[int, str, str, str]]]:
    weights = [shape.weight for shape in COMMANDS]
    for place in range(count):
        faults = world.chance.choice([0, 1, 1, 1, 1, 2])
        if place < in_processes:
            words = argv(world.chance.choice(TRAINING), world, faults)
            yield words, in_a_process(words, world.folder)
        else:
            words = argv(world.chance.choices(COMMANDS, weights)[0], world, faults)
            cache = ["--root" if words[0] == "data.cache" else "--cache", world.path("cache")]
            takes_cache = (
                words[0] == "data.cache"
                or words[1:2]
                and words[1] in ("plan", "run", "submit")
                and words[2:3]
                and words[2] in STUDIES
            )
            words += cache if takes_cache else []
            yield words, outcome(words)


def fuzz(seed: int, count: int, in_processes: int = 0) -> None:
    """Raises AssertionError where a case ends as none may, with all of them."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    before = {key: os.environ.get(key) for key in ("JAX_PLATFORMS", "COLUMNS")}
    os.environ["JAX_PLATFORMS"] = "cpu"
    found: list[Found] = []
    statuses: collections.Counter[int] = collections.Counter()
    working = Path.cwd()
    try:
        os.chdir(folder)
        world = World(folder, random.Random(seed))
        for words, ended in cases(world, count, in_processes):
            statuses[ended[0]] += 1
            if bad := judged(words, ended):
                found.append(bad)
    finally:
        os.chdir(working)
        shutil.rmtree(folder, ignore_errors=True)
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})
    past = 1 - statuses[2] / count
    kinds = collections.Counter(bad.why for bad in found)
    print(f"{count} cases of seed {seed}: statuses {dict(sorted(statuses.items()))}, {past:.0%} past every refusal, "
          f"{len(found)} wrong of {len(kinds)} kinds")  # fmt: skip
    shown = {bad.why: bad for bad in found}
    text = "\n".join(
        f"{kinds[why]}x {why}\n   {list(bad.words)!r:.600}\n   {bad.detail[-500:]}"
        for why, bad in shown.items()
    )
    assert not found, f"{len(found)} of {count}:\n{text}"
    assert past >= SHARE_PAST_REFUSALS, statuses


@pytest.mark.slow
def test_150_commands():
    fuzz(seed=1, count=150, in_processes=1)


@pytest.mark.long
def test_2000_commands():
    fuzz(seed=2, count=2000, in_processes=20)


if __name__ == "__main__":
    fuzz(*(int(word) for word in sys.argv[1:]))
