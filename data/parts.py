"""What an interrupted build has finished, kept for the next attempt: one file a part, which is whole or not there."""

import contextlib
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from core.files import write_atomic


class Parts:
    """Finished parts of a build, each by its name and by what it was made from.

    Args:
      folder: where they are kept; None to keep nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def has(self, name: str, made_from: Any) -> bool:
        """Whether a part is there, damaged or not."""
        return self._folder is not None and self._path(name, made_from).is_file()

    def read(self, name: str, made_from: Any) -> dict[str, np.ndarray] | None:
        """The arrays of a part; None where it is not there, damaged, or made from something else."""
        if not self.has(name, made_from):
            return None
        try:
            with np.load(self._path(name, made_from), allow_pickle=False) as arrays:
                return dict(arrays.items())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            return None  # a zip file has checksums of its own

    def keep(self, name: str, made_from: Any, arrays: dict[str, np.ndarray]) -> None:
        """Keep a finished part."""
        if self._folder is not None:
            payload = io.BytesIO()
            np.savez(payload, **arrays)  # type: ignore[arg-type]  # its stub takes the names for flags
            write_atomic(self._path(name, made_from), payload.getvalue())

    def remove(self) -> None:
        """The build is done, or what it was made from cannot be used."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._folder)

    def _path(self, name: str, made_from: Any) -> Path:
        assert self._folder is not None
        digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
        return self._folder / f"{name}-{digest}.npz"
