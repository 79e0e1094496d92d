"""Runs that continue after an interruption as if nothing had happened."""
from .choose import build_runner, prepare_resume
from .runner import CheckpointError, ResumableRunner

__all__ = ['CheckpointError', 'ResumableRunner', 'build_runner',
           'prepare_resume']
