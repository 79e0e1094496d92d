"""Finds bad data before it is trained on.

``run.check_data`` reads what a config will read: ``part.py`` builds the data
sets, ``coco.py`` (with ``boxes.py``), ``segmentation.py`` and
``classification.py`` check one of a family, ``files.py`` decodes images and
maps, ``report.py`` gathers the faults.
"""
from .report import Report
from .run import check_briefly, check_data
from .start import check_start

__all__ = ['Report', 'check_briefly', 'check_data', 'check_start']
