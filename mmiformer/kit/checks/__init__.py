"""Finds bad data and settings before they are trained on.

``data.check_data`` builds the data sets of a config and reads their samples:
the framework is the checker. ``coco.py`` and ``settings.py`` have rules for
what is silently wrong; ``start.check_start`` is the brief check before a run.
"""
from .data import check_data
from .report import Finding, Report
from .settings import check_settings
from .start import check_start

__all__ = ['Finding', 'Report', 'check_data', 'check_settings', 'check_start']
