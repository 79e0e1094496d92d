from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
version = {}
exec((ROOT / 'mmiformer' / 'version.py').read_text(), version)

MMCV = 'mmcv>=2.0.0,<2.2.0'  # as mmdet 3.3 and mmsegmentation 1.2 demand

setup(
    name='mmiformer',
    version=version['__version__'],
    description='The iFormer backbone (Inception Transformer, NeurIPS 2022) '
    'for mmdetection and mmsegmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmiformer', 'mmiformer.*']),
    python_requires='>=3.10',
    install_requires=['torch>=2.1', 'mmengine>=0.10.0,<0.11'],
    extras_require={
        'det': [MMCV, 'mmdet>=3.3.0,<3.4'],
        'seg': [MMCV, 'mmsegmentation>=1.2.0,<1.3', 'ftfy', 'regex'],
    },
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ])
