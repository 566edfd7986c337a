"""How a run is trained."""

from core import begin
from core.errors import EXIT_STOPPED

begin.module(EXIT_STOPPED, resumes=True)
