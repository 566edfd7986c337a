"""Files that commands read, right ones and wrong ones, and a place where they write."""

import json
import os
import random
import shutil
from pathlib import Path

from tests.fuzz.faults import spoiled_text
from tests.support.small import ROOT

STORED = ROOT / "tests" / "stored"


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
        tasks = [
            f"t{t},params,{10 ** (5 + s / 3):.0f},500,{min(500, 50 + 40 * s * t)},0.1,{seed}"
            for t in (0, 1)
            for s in range(10)
            for seed in (0, 1)
        ]
        self.write("tasks.csv", "\n".join(["task,axis,scale,n,correct,chance,seed", *tasks]))
        valleys = [
            f"{n:.0f},{c / 6 / n:.0f},{1.7 + 40 / n**0.34 + 90 / (c / 6 / n) ** 0.3:.6f}"
            for c in (1e12, 4e12, 1.6e13)
            for n in (2e4, 5e4, 1e5, 2e5, 5e5, 1e6)
        ]
        self.write("valleys.csv", "\n".join(["params,tokens,loss", *valleys]))
        rule = {"parametrization": "mup", "base_width": 32, "learning_rate_at_base": 0.0055}
        self.write("rule.json", json.dumps({"kind": "scaling rule", "rule": rule}))
        runs = [{"params": 7504, "tokens": 92160, "seed": 0}, {"params": 14288, "tokens": 46080, "seed": 0}]
        self.write("plan.json", json.dumps({"format": 1, "structure": "runs", "runs": runs}))
        self.write(
            "site.toml",
            'partition = "long"\ngpus = 1\ntime = "1:00:00"\nsignal_seconds = 60\n'
            '[[resources]]\nparams_above = 1e8\nnodes = 2\n[skypilot]\nbucket = "s3://b"\n[jobset]\nimage = "i"\n',
        )
        self.write(
            "own_tasks.jsonl",
            "\n".join(json.dumps({"prompt": f"{i}+1=", "target": str(i + 1)}) for i in range(20)),
        )

    def first(self) -> list[list[str]]:
        """Commands whose files others read."""
        table, fit, forecast = map(self.path, ("table.csv", "fit.json", "forecast.json"))
        at = ["--params", "1e7", "--tokens", "1e8"]
        return [
            ["analysis.fit", table, "--law", "chinchilla", "--bootstrap", "20", "--out", fit],
            ["analysis.forecast", fit, *at, "--out", forecast],
        ]

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
            for name in (
                "directory",
                "fifo",
                "loop",
                "empty",
                "binary",
                "deep.json",
                "numbers.json",
                "list.json",
                "text.json",
                "null.json",
                "number.json",
                "object.json",
                "missing",
                "fit.json",
                "forecast.json",
                "plan.json",
                "rule.json",
                "table.csv",
                "tasks.csv",
                "site.toml",
                "runs/stored",
                "runs",
                "empty/x",
            )
        ] + ["x" * 300, ""]

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
            return self.path(
                self.chance.choice(["directory", "loop", "fifo", "empty/x", "x" * 300, "out/new/x", ""])
            )
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
