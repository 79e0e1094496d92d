"""How the tools start, and how they end when a user got something wrong."""
import contextlib
import logging
import sys
import warnings
from typing import Callable, Iterator, Tuple, Type

from mmengine.logging import MMLogger

from ..checkpoint import force_weights_only

DEBUG = '--debug'  # which every tool takes, beside its own options
USER_ERRORS = (OSError, ValueError, ImportError, RuntimeError)
Errors = Tuple[Type[Exception], ...]
_shown = False  # whether traces are


def run_tool(main: Callable[[], None], quiet: bool = True,
             errors: Errors = USER_ERRORS) -> None:
    """Calls the ``main`` of a tool.

    Checkpoints run no code, and names of files are printed in any encoding.

    Args:
        main: It parses ``sys.argv``, from which ``--debug`` is taken away.
        quiet: Whether warnings and log lines of other packages are hidden.
        errors: What ends the tool with one line, as in :func:`user_errors`.
            Others leave their trace.
    """
    global _shown
    _shown = DEBUG in sys.argv
    sys.argv[:] = [word for word in sys.argv if word != DEBUG]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')
    force_weights_only()
    if quiet:
        warnings.filterwarnings('ignore')
        MMLogger.get_current_instance().setLevel(logging.ERROR)
    with user_errors(errors):
        main()


@contextlib.contextmanager
def user_errors(errors: Errors = USER_ERRORS) -> Iterator[None]:
    """Ends the program with the line of an error, status 1 and no trace; with
    ``--debug`` with the trace.

    Args:
        errors: Their text names the value, the place and the choices.
    """
    try:
        yield
    except errors as error:
        if _shown:
            raise
        sys.exit(f'error: {error}')
