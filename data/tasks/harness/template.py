"""The templates of a task definition: rendered in a sandbox, and refused where they take too much."""

import functools
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from core.errors import BadInput
from data.tasks.harness.keys import shown

MOST_SECONDS = 2.0  # of processor time, of one template with one document
MOST_CHARACTERS = 2**20  # that it gives
MOST_BITS = 2**16  # of a number that it calculates with


def rendered(template: str, document: Mapping[str, Any], where: str) -> str:
    """The template filled in with the fields of a document.

    Raises:
      BadInput: the message begins with `where`.
    """
    try:
        with _limited(MOST_SECONDS):
            text = _compiled(template).render(document)
    except BadInput:
        raise
    except ModuleNotFoundError:
        raise BadInput(f"{where}: templates need jinja2; pip install jinja2") from None
    except Exception as error:  # noqa: BLE001 - a template is a program, which may raise whatever there is
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadInput(f"{where}: template {shown(template)} cannot be filled in ({said})") from None
    if len(text) > MOST_CHARACTERS:
        raise BadInput(f"{where}: template {shown(template)} gives more than {MOST_CHARACTERS:,} characters")
    return text


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End what takes longer, in this process's own time. Only a main thread can be told, which a reader's is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise TimeoutError(f"takes more than {seconds:g} seconds")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@functools.lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    return _environment().from_string(template)


@functools.cache
def _environment() -> Any:
    # only where a definition is rendered
    import jinja2
    import jinja2.sandbox

    class TemplateEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
        """Refuses products and powers that no time limit can interrupt."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                size = _bits(left) * max(abs(right), 1) if isinstance(right, int) else _bits(left)
            else:
                size = max(_bits(left), _bits(right))
                size = max(
                    size, *(8 * len(a) * b for a, b in ((left, right), (right, left)) if _repeats(a, b)), 0
                )
            if size > (MOST_BITS if isinstance(left, int) and isinstance(right, int) else 8 * MOST_CHARACTERS):
                raise jinja2.sandbox.SecurityError(f"{operator} gives too much")
            return super().call_binop(context, operator, left, right)

    environment = TemplateEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["regex_replace"] = lambda text, pattern, by="", count=0: re.sub(
        pattern, by, text, count=count
    )
    return environment


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _repeats(sequence: Any, times: Any) -> bool:
    return isinstance(sequence, str | bytes | list | tuple) and isinstance(times, int)
