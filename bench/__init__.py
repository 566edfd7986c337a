"""What measures or calibrates the other rooms."""

from core import begin
from core.errors import EXIT_INTERRUPTED

begin.module(EXIT_INTERRUPTED)
