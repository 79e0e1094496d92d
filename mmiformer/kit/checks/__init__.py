"""Finds bad data before it is trained on.

``data.check_data`` reads what a config will read: ``dataset_split.py`` builds
the data sets; ``coco.py`` (with ``objects.py``), ``segmentation.py`` and
``classification.py`` check one of a family, ``settings.py`` what has to agree;
``kinds.py`` has every fault, and what mm* does with it. ``start.check_start``
is the brief check before a run.
"""
from .context import CheckContext
from .data import BRIEF, check_data
from .kinds import Report
from .start import check_start

__all__ = ['BRIEF', 'CheckContext', 'Report', 'check_data', 'check_start']
