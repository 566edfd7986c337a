"""From logs to laws, forecasts and a report."""

from core import begin
from core.errors import EXIT_INTERRUPTED

begin.module(EXIT_INTERRUPTED)
