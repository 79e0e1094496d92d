from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
version = {}
exec((ROOT / 'mmiformer' / 'version.py').read_text(), version)

# Extras only: the forks ship the same modules under other names, and a hard
# requirement would install a second copy over theirs.
UPSTREAM = ['mmengine>=0.10.0,<0.11', 'mmcv>=2.0.0,<2.2.0']
FORKS = ['onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6']

setup(
    name='mmiformer',
    version=version['__version__'],
    description='The iFormer backbone (Inception Transformer, NeurIPS 2022) '
    'for mmdetection, mmsegmentation and mmpretrain',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmiformer', 'mmiformer.*']),
    # Links to configs, tools and model-index.yml, where mmengine and mim look.
    package_data={'mmiformer': [
        '.mim/*.yml', '.mim/configs/*/*', '.mim/tools/*']},
    exclude_package_data={'mmiformer': [
        '.mim/*/__pycache__/*', '.mim/tools/setup_env.py']},
    python_requires='>=3.10',
    install_requires=['torch>=2.1'],
    extras_require={
        'det': [*UPSTREAM, 'mmdet>=3.3.0,<3.4'],
        'seg': [*UPSTREAM, 'mmsegmentation>=1.2.0,<1.3', 'ftfy', 'regex'],
        'cls': [*UPSTREAM, 'mmpretrain>=1.2.0,<1.3', 'torchvision'],
        'cam': ['grad-cam>=1.5', 'torchvision'],
        'onedl-det': [*FORKS, 'onedl-mmdetection>=3.5.1'],
        'onedl-seg': [*FORKS, 'onedl-mmsegmentation>=1.4.2'],
        'onedl-cls': [*FORKS, 'onedl-mmpretrain>=1.3.6', 'torchvision'],
    },
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ])
