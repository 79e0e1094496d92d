"""Lets the setup.py of mmcv run on Python 3.13: `make setup` has this folder
on PYTHONPATH while it builds.

It executes a file and looks for what that assigned in locals(), where it has
not been since Python 3.13 (PEP 667).
"""
import builtins
import sys

execute = builtins.exec


def execute_in_caller(code, *namespaces, **kwargs):
    caller = sys._getframe(1)
    execute(code, *(namespaces or (caller.f_globals, caller.f_locals)),
            **kwargs)


if sys.version_info >= (3, 13):
    builtins.exec = execute_in_caller
