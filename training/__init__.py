"""How a run is trained."""

from core import stop
from core.errors import EXIT_STOPPED

stop.listen_as_module(EXIT_STOPPED, resumes=True)
