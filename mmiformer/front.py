"""What every tool does around its work: it prepares the process, and tells its
user in one line what he can mend."""
import argparse
import contextlib
import io
import logging
import sys
import traceback
import warnings
from typing import Any, Callable, Iterator, Tuple, Type

from mmengine.logging import MMLogger

from .checkpoint import force_weights_only

# What is raised about a file, a value or a package that the user gave.
USER_ERRORS = (ImportError, OSError, RuntimeError, ValueError)
BUGS = (NotImplementedError, RecursionError)  # although RuntimeErrors


def new_parser(description: str) -> argparse.ArgumentParser:
    """A parser that prints its description as it is written, with
    ``--debug``."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--debug', action='store_true',
                        help='show the whole trace of an error')
    return parser


def run(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace,
        level: int = logging.ERROR, status: int = 1) -> Any:
    """Runs the work of a tool in a process that is prepared for it.

    Every checkpoint is opened without running code, and output is UTF-8.

    Args:
        main: Takes the arguments; what it returns is returned.
        args: Of :func:`new_parser`.
        level: The least that mmengine logs. Above ``logging.INFO`` warnings of
            other packages are not shown either.
        status: As of :func:`report_errors`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding='utf-8', errors='backslashreplace')
    force_weights_only()  # it may log a warning
    if level > logging.INFO:
        warnings.filterwarnings('ignore')
        MMLogger.get_current_instance().setLevel(level)
    with report_errors(args, status):
        return main(args)


@contextlib.contextmanager
def report_errors(args: argparse.Namespace, status: int = 1,
                  kinds: Tuple[Type[Exception], ...] = USER_ERRORS
                  ) -> Iterator[None]:
    """Ends the process where a block raises: with a line about what the user
    gave, and with the trace of a bug.

    Args:
        args: Of :func:`new_parser`. ``debug`` shows the trace of every error.
        status: The exit status.
        kinds: The types of errors that the user can mend.
    """
    try:
        yield
    except Exception as error:
        text = str(error) or repr(error)
        if _is_of_config(error):
            text = f'{getattr(args, "config", "a config")}: {text}'
        elif not isinstance(error, kinds) or isinstance(error, BUGS):
            text = ''
        elif isinstance(error, RuntimeError):  # of a library
            text += ' (--debug shows the trace)'
        if args.debug or not text:
            traceback.print_exc()
        else:
            sys.stderr.write(f'error: {text}\n')
        sys.exit(status)


def _is_of_config(error: Exception) -> bool:
    """Whether mmengine misses a key in a config, or a class by its name."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, (AttributeError, KeyError)) and (
        frame.f_globals.get('__name__', '').startswith(
            ('mmengine.config', 'mmengine.registry')))
