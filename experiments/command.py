"""From the words of a command line to an experiment's runs: `python launch.py VERB EXPERIMENT [flags]`."""

import dataclasses
import functools
import inspect
import os
import shlex
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from core import cli
from core.errors import BadInput
from core.names import plain_name
from core.reading import printable
from core.rundir import SweepDirectory
from core.suggest import unknown
from core.sweep_file import SweepRequest
from experiments import registry
from experiments.folder import SweepFolder, folder_of
from experiments.spec import RunSpec, Sweep

Flags = TypeVar("Flags")


@dataclasses.dataclass(frozen=True)
class CommonFlags:
    """Of every experiment, whatever is done with it.

    Attributes:
      preset: a named set of arguments that the experiment defines (h100, ...); cpu: its defaults.
      set: any RunSpec field, by dotted key: KEY=VALUE.
      runs: folder of sweeps.
      name: the sweep's folder in it; where none, the experiment's name, and behind it what --set changes.
      cache: corpora, tokens, compiled programs.
    """

    preset: str | None = None
    set: tuple[tuple[str, ...], ...] = ()
    runs: Path = Path("runs")
    name: str | None = None
    cache: Path = Path("cache")


@dataclasses.dataclass(frozen=True)
class AskedSweep:
    """An experiment as a command line asks for it.

    Attributes:
      name: of the experiment.
      sweep: its runs.
      held_back: run_ids of those that wait until a forecast of them is written.
      directory: runs/<sweep>.
      cache: corpora, tokens, compiled programs.
      asked: the command line, for sweep.json; None where there was none.
    """

    name: str
    sweep: Sweep
    held_back: tuple[str, ...]
    directory: Path
    cache: Path
    asked: SweepRequest | None = None

    @property
    def specs(self) -> list[RunSpec]:
        return list(self.sweep)


def choose(verb: str, arguments: Sequence[str], kind: type[Flags], about: str) -> tuple[AskedSweep, Flags]:
    """The experiment that `arguments` begin with, its sweep by its own flags, and the flags of the verb.

    --help prints what may follow and exits with 0.

    Args:
      kind: frozen dataclass of the verb's own flags.
      about: what --help says about the verb.

    Raises:
      BadInput: no experiment, or an unknown one, preset, flag or value.
    """
    prog = f"python launch.py {verb}"
    if not arguments or arguments[0] in cli.HELP:
        print(about, "\nexperiments:", *_headlines(), sep="\n")  # noqa: T201
        if not arguments:
            raise BadInput(f"{verb} needs an experiment, as in {prog} quickstart")
        cli.parse(_arguments_of(_no_experiment, {}, kind), ["--help"], f"{prog} EXPERIMENT", about="\n")
    name, *rest = arguments
    if name.startswith("-"):
        raise BadInput(f"{name}: the experiment comes first, as in {prog} quickstart")
    experiment = registry.load(name)
    preset = _preset_in(rest)
    if preset is not None and preset not in experiment.presets:
        raise unknown("--preset=", preset, experiment.presets)
    defaults = experiment.presets[preset] if preset else {}
    function = _arguments_of(experiment.sweep, defaults, kind)
    make, common, flags = cli.parse(function, rest, f"{prog} {name}", about=experiment.docstring)
    changed, plain = settings([item for items in common.set for item in items]), make()
    sweep = plain.with_settings(changed)
    if sweep.collapsed and verb != "plan":  # which says so in its own place
        print(sweep.collapsed)  # noqa: T201
    if common.name is None:
        folder = folder_of(common.runs, name, plain, sweep, changed)
    else:
        folder = SweepFolder(sweep_directory(common.runs, common.name))
    if folder.said:
        print(f"note: {folder.said}", file=sys.stderr)  # noqa: T201
    sweep = located(sweep, folder.path)
    held = tuple(experiment.held_back(sweep)) if experiment.held_back is not None else ()
    asked = SweepRequest(
        command=shlex.join([*prog.split(), *arguments]),
        experiment=name,
        runs=tuple(run.run_id for run in sweep),
        arguments=_values(make),
        preset=preset,
        settings=changed,
        question=getattr(sweep, "question", None) or "",
        folder=os.getcwd(),
    )
    return AskedSweep(name, sweep, held, folder.path, common.cache, asked), flags


def _values(make: Callable[[], Sweep]) -> dict[str, Any]:
    """The arguments of a call that is still to be made, defaults among them, as JSON has them."""
    call = typing.cast(functools.partial[Sweep], make)
    given = inspect.signature(call.func).bind(*call.args, **call.keywords)
    given.apply_defaults()
    return {key: _plain(value) for key, value in given.arguments.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def located(sweep: Sweep, directory: Path) -> Sweep:
    """The sweep with every path from the root on: what is typed here is what a worker reads elsewhere.

    Before this was so, runs were named by the path as typed. Where the folder has such runs, they keep their names.

    Args:
      directory: runs/<sweep>.
    """
    whole = sweep.located()
    if whole.runs == sweep.runs or any(SweepDirectory(directory).run(run.run_id).is_run() for run in sweep):
        return sweep
    return whole


def settings(items: Sequence[str]) -> dict[str, str]:
    """{"model.width": "96"} from ["model.width=96"]; of a key that is given twice the last, and that is said.

    Raises:
      BadInput: another form.
    """
    found: dict[str, str] = {}
    for key, equals, value in (item.partition("=") for item in items):
        if not (key and equals):
            raise BadInput(f"--set {printable(key)}: must be KEY=VALUE, such as model.width=96")
        if found.get(key, value) != value:
            said = f"note: --set {printable(key)} is given twice, as {printable(found[key])} and {printable(value)}"
            print(f"{said}; the last counts", file=sys.stderr)  # noqa: T201
        found[key] = value
    return found


def sweep_directory(runs: Path, name: str) -> Path:
    """runs/<name>; the name stays inside the folder."""
    return runs / plain_name("--name", name)


def _arguments_of(
    sweep: Callable[..., Sweep], defaults: Mapping[str, Any], kind: type[Flags]
) -> Callable[..., tuple[Callable[[], Sweep], CommonFlags, Flags]]:
    """A function whose arguments are an experiment's own flags, the common ones and those of the verb."""
    # With the rest of tyro, which a list of the experiments is spared.
    from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, UseAppendAction, arg

    own = functools.partial(cli.delayed(sweep, finite=True), **defaults)

    def gather(
        experiment: Annotated[Callable[[], Sweep], arg(constructor=own), OmitArgPrefixes],
        common: Annotated[CommonFlags, OmitArgPrefixes, FlagCreatePairsOff, UseAppendAction],
        command: Annotated[kind, OmitArgPrefixes, FlagCreatePairsOff],  # type: ignore[valid-type]  # known when called
    ) -> tuple[Callable[[], Sweep], CommonFlags, kind]:  # type: ignore[valid-type]
        return experiment, common, command

    return gather


def _no_experiment() -> Sweep:
    """Its own flags, which python launch.py run EXPERIMENT --help lists."""
    raise BadInput("no experiment")


def _headlines() -> list[str]:
    return [
        textwrap.fill(f"  {name:<16} {headline}", cli.WIDTH, subsequent_indent=" " * 19)
        for name, headline in registry.headlines().items()
    ]


def _preset_in(arguments: Sequence[str]) -> str | None:
    """The preset that these arguments name. It decides the defaults of other flags, so it is read before them."""
    preset = None
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        flag, equals, value = word.partition("=")
        if flag == "--preset":
            preset = value if equals else following
    return preset
