"""What a sweep costs and teaches before it runs."""

from core import begin
from core.errors import EXIT_INTERRUPTED

begin.module(EXIT_INTERRUPTED)
