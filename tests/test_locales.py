"""Real commands in any locale, terminal and set of open files: the same runs, the same words, status 0."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.small import ROOT, cache_folder

LOCALES = {"en_US.ISO-8859-1": "ISO-8859-1", "ja_JP.EUC-JP": "EUC-JP", "en_US.ANSI_X3.4-1968": "ANSI_X3.4-1968"}
# What decides on a process's encodings, by a name for it.
PLACES = {
    "UTF-8": {"LC_ALL": "C.UTF-8"},
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX"},
    "C without Python's help": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    **{name: {"LC_ALL": name} for name in LOCALES},
    "ascii terminal": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
    "dumb": {"LC_ALL": "C.UTF-8", "TERM": "dumb", "COLUMNS": "20", "NO_COLOR": "1"},
}

OFTEN = ("C without Python's help",)
# By make test-long; the rest of PLACES, where these commands say what they say in one of these, by make test-walks.
LESS_OFTEN = ("ja_JP.EUC-JP", "ascii terminal", "dumb")


def how_often(place: str) -> pytest.MarkDecorator:
    return pytest.mark.slow if place in OFTEN else pytest.mark.long if place in LESS_OFTEN else pytest.mark.walk


@pytest.fixture(scope="module")
def locales(tmp_path_factory) -> Path:
    """Locales that few machines have, made here."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/en_US").exists():
        pytest.skip("locales cannot be made here (no localedef)")
    for name, characters in LOCALES.items():
        language = name.partition(".")[0]
        subprocess.run(
            ["localedef", "-c", "-i", language, "-f", characters, str(folder / name)], capture_output=True
        )
    return folder


def environment(place: str, locales: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    return {**clean, "LOCPATH": str(locales), "JAX_PLATFORMS": "cpu", **PLACES[place]}


def call(words: list[str], place: str, locales: Path, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(place, locales),
        capture_output=True,
        timeout=300,
        **more,
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, locales) -> Path:
    """A sweep whose every name is beyond ASCII, trained in a locale of Latin-1."""
    folder = tmp_path_factory.mktemp("données")
    draw = random.Random(0)
    words = ["naïve", "漢字", "straße", "the", "of", "model", "é"]
    documents = [
        json.dumps({"text": " ".join(draw.choices(words, k=60))}, ensure_ascii=False) for _ in range(1500)
    ]
    (folder / "é漢.jsonl").write_text("\n".join(documents) + "\n", encoding="utf-8")
    arguments = (
        f"--sizes 1 --no-trunk --tokens 16384 --set data.validation_tokens=512 --corpus text:{folder}/é漢.jsonl "
        f"--runs {folder}/runs-é --cache {cache_folder(folder / 'cache-漢')} --name größe --workers 1"
    )
    done = call(["launch.py", "run", "quickstart", *arguments.split()], "en_US.ISO-8859-1", locales)
    assert done.returncode == 0, done.stderr.decode("latin-1")
    # The same command in another locale is the same run.
    again = call(["launch.py", "run", "quickstart", *arguments.split()], "ja_JP.EUC-JP", locales)
    assert b"1 already complete" in again.stdout, again.stderr
    return folder / "runs-é" / "größe"


@pytest.mark.parametrize(
    "place",
    [pytest.param(place, marks=how_often(place)) for place in PLACES],
)
def test_commands_say_the_same_everywhere(sweep, locales, tmp_path, place):
    table = tmp_path / "táble.csv"
    rows = [
        f"{n},{d},{1.7 + 400 / n**0.34 + 900 / d**0.3}" for n in (1e5, 2e5, 4e5, 8e5) for d in (1e6, 4e6, 1.6e7)
    ]
    table.write_text("\n".join(["params,tokens,loss", *rows]), encoding="utf-8")
    (spec,) = (json.loads(path.read_text(encoding="utf-8")) for path in sweep.glob("*/spec.json"))
    assert spec["data"]["corpus"].endswith("é漢.jsonl")
    for words, expected in (
        (["launch.py", "status", str(sweep)], b"1 complete"),
        (["launch.py", "doctor", str(sweep)], b"nothing is wrong"),
        (["-m", "analysis.report", str(sweep)], b"report.html"),
        (["-m", "analysis.fit", str(table), "--out", str(tmp_path / "fít.json")], b"written"),
        (
            [
                "-m",
                "data.cache",
                "--corpus",
                spec["data"]["corpus"],
                "--root",
                str(sweep.parents[1] / "cache-漢/cache"),
            ],
            b"tokens",
        ),
    ):
        done = call(words, place, locales)
        assert done.returncode == 0, (words, done.stderr)
        assert b"Traceback" not in done.stderr
        assert expected in done.stdout.replace(b"\n", b" "), (words, done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["C without Python's help", "dumb"])
def test_help_is_printed_everywhere(locales, place):
    commands = (
        "launch.py",
        "launch.py run --help",
        "launch.py plan chinchilla --help",
        "-m analysis.fit --help",
    )
    for words in (
        *map(str.split, commands),
        ["-m", "analysis.report", "--help"],
        ["-m", "training.run", "--help"],
    ):
        done = call(words, place, locales)
        assert done.returncode == 0, (words, done.stderr)
        assert not done.stderr
        assert len(done.stdout) > 300


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_needs_no_open_stream(locales, tmp_path, closed):
    stored = tmp_path / "sweep"
    shutil.copytree(ROOT / "tests" / "stored" / "runs" / "stored", stored)
    before = sorted(path.name for path in stored.rglob("*"))
    for words in (
        f"launch.py status {stored}",
        f"launch.py doctor {stored} --json",
        "launch.py plan quickstart",
    ):
        shell = f'"{sys.executable}" {words} {closed}; echo "status $?" >> "{tmp_path}/said"'
        subprocess.run(
            ["sh", "-c", shell], cwd=ROOT, env=environment("UTF-8", locales), capture_output=True, timeout=120
        )
    statuses = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
    assert statuses[0] == statuses[2] == "status 0"
    assert statuses[1] in ("status 0", "status 1")  # what an old sweep lacks may be told
    assert sorted(path.name for path in stored.rglob("*")) == before
