"""`python launch.py export RUN --format huggingface --out DIR`: a trained model as files that others read."""

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from core.bounds import Allowed
from core.cli import parse
from core.errors import EXIT_COMPLETE, BadInput, writes
from core.files import sync_tree
from core.reading import path_exists
from core.rundir import LEDGER, SPEC, RunDirectory
from data.tokenizers import MOST_BYTES
from model import exchange
from training.cost import ledger_of
from training.processes.start import configure_jax
from training.provenance import FILE, card, provenance
from training.records import read_spec
from training.spec import RunSpec

ABOUT = """Write a trained run as files that others read.

python launch.py export runs/quickstart/RUN --format huggingface --out my-model
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line."""

    run: Positional[Path]
    """runs/<sweep>/<run>, trained to its end"""
    format: str
    """a file of model/exchange/"""
    out: Path
    """a folder that is not there yet, or is empty"""
    dtype: str = ""
    """float32 or bfloat16; else the format's own"""
    tokens: Annotated[int, Allowed(0, 1 << 62)] | None = None
    """of the checkpoint; else the run's end"""
    cache: Path = Path("cache")
    """corpora, tokens, compiled programs"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder and say where it is."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse(Arguments, given, "python launch.py export", about=_about())
    configure_jax(options.cache)
    export(options.run, options.format, options.out, options.dtype, options.tokens, options.cache)
    sys.stdout.write(f"{options.out}: {options.run.name} as {options.format}\n")
    return EXIT_COMPLETE


def _about() -> str:
    return f"{ABOUT}\nFormats: {', '.join(exchange.formats())}."


def export(
    run: Path,
    form: str,
    out: Path,
    dtype: str = "",
    tokens: int | None = None,
    cache: Path = Path("cache"),
) -> None:
    """Write a run's model into a folder, whole or not at all.

    Args:
      form: a name of `model.exchange.formats`.
      dtype: of the weights in it; "" for the format's own.
      tokens: of the checkpoint; None for the run's end.
      cache: where token caches lie, for the tokenizer of a run that keeps none.

    Raises:
      BadInput: no such format, a network or a dtype that it has no form for, a run that is not complete, or a folder
        that holds something.
    """
    chosen = exchange.load(form)
    if dtype not in ("", *chosen.DTYPES):
        raise BadInput(f"--dtype={dtype!r}: {form} stores {' or '.join(chosen.DTYPES)}")
    if not run.is_dir():
        raise BadInput(f"{run}: no such run directory")
    spec = read_spec(run)
    refuse_incomplete(run)
    chosen.refuse(spec.model)
    refuse_occupied(out)
    model = exported(run, spec, spec.tokens if tokens is None else tokens, cache)
    with writes(out), whole_folder(out) as folder:
        chosen.write(model, folder, dtype or chosen.DTYPES[0])


def exported(run: Path, spec: RunSpec, tokens: int, cache: Path) -> exchange.Exported:
    """What leaves the house of a run.

    Raises:
      BadInput: no checkpoint at `tokens` that can be read, or no tokenizer.
    """
    import jax  # here: a bad flag is refused before it is loaded
    import numpy as np

    from training.load import NoCheckpoint, parameters, tokenizer_of
    from training.processes.mesh import choose_mesh

    files, mesh = RunDirectory(run), choose_mesh("", spec)
    with jax.set_mesh(mesh):
        try:
            params: dict[str, Any] = jax.tree.map(np.asarray, parameters(run, spec, mesh, tokens))
        except NoCheckpoint as error:
            raise BadInput(str(error)) from None
    tokenizer, said = tokenizer_of(run, spec, cache), provenance(run, tokens)
    beside = {
        SPEC: to_text(said.get("spec")),
        LEDGER: to_text(ledger_of(spec)),
        FILE: to_text(said),
    }
    return exchange.Exported(
        name=str(said["run"]),
        config=spec.model,
        params=params,
        context=spec.data.sequence_length,
        tokenizer=spec.data.tokenizer,
        tokenizer_json=files.read_tokenizer(MOST_BYTES) or tokenizer.to_json(),
        vocabulary=tokenizer.vocabulary,
        end=tokenizer.separator,
        card=card(said),
        beside=beside,
    )


def to_text(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def refuse_incomplete(run: Path) -> None:
    """Raises BadInput where a run is not trained to its end."""
    completion = RunDirectory(run).completion()
    if completion.result is None:
        why = completion.problem or "it is not trained to its end"
        raise BadInput(f"{run}: not a complete run ({why}); only a complete run is exported")


def refuse_occupied(out: Path) -> None:
    """Raises BadInput where a path is anything but an empty folder or free."""
    if not path_exists(out):
        return
    if out.is_symlink() or not stat.S_ISDIR(out.lstat().st_mode):
        raise BadInput(
            f"--out={out}: is there, and no folder; must be a folder that is not there yet, or is empty"
        )
    if any(out.iterdir()):
        raise BadInput(f"--out={out}: holds files already; must be a folder that is not there yet, or is empty")


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write into, which takes its place once all is on the disk; an error leaves nothing."""
    place = out.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = place.with_name(f".{place.name[:60]}.{secrets.token_hex(4)}.tmp")
    folder.mkdir()
    try:
        yield folder
        sync_tree(folder)
        os.rename(folder, place)  # of folders: only an empty one is replaced
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
