import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What mmengine and mim look for in <package>/.mim.
MIM = ('configs', 'tools', 'model-index.yml')
version = {}
exec((ROOT / 'mmiformer' / 'version.py').read_text(), version)

# The lowest versions are those of requirements/lowest.txt. torch is chosen by
# hand, as for mmdet: pip would replace it by the newest, and the mmcv that was
# built for it would no longer load. mm* are extras: the forks ship the same
# modules under other names, and a hard requirement would install a second
# copy over theirs.
UPSTREAM = ['mmengine>=0.8.4,<0.11', 'mmcv>=2.0.0,<2.3']
FORKS = ['onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6']


class BuildWithMim(build_py):
    """Adds .mim: copies in a wheel, links in an editable install."""

    def run(self):
        super().run()
        base = ROOT if self.editable_mode else Path(self.build_lib)
        mim = base / 'mmiformer' / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in MIM:
            if self.editable_mode:
                try:
                    (mim / name).symlink_to(Path('..', '..', name))
                    continue
                except OSError as error:  # a file system without links
                    self.warn(f'{mim / name} is a copy, no link: install '
                              f'again after a change of {name} ({error})')
            if name == 'model-index.yml':
                shutil.copy(str(ROOT / name), str(mim))
            else:
                shutil.copytree(
                    str(ROOT / name), str(mim / name),
                    ignore=shutil.ignore_patterns('__pycache__'))


setup(
    name='mmiformer',
    version=version['__version__'],
    description='The iFormer backbone (Inception Transformer, NeurIPS 2022) '
    'for mmdetection, mmsegmentation and mmpretrain',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The mmiformer authors',
    project_urls={'Paper': 'https://arxiv.org/abs/2205.12956'},
    license='Apache-2.0',
    packages=find_packages(include=['mmiformer', 'mmiformer.*']),
    py_modules=['mmiformer_cli'],
    package_data={'mmiformer.paper.curves': ['*.csv']},
    cmdclass={'build_py': BuildWithMim},
    entry_points={'console_scripts': ['mmiformer = mmiformer_cli:main']},
    python_requires='>=3.8',
    install_requires=['huggingface_hub'],
    extras_require={
        'det': [*UPSTREAM, 'mmdet>=3.0.0,<3.4'],
        'seg': [*UPSTREAM, 'mmsegmentation>=1.0.0,<1.3', 'ftfy', 'regex'],
        'cls': [*UPSTREAM, 'mmpretrain>=1.0.0,<1.3', 'torchvision'],
        'predict': ['supervision>=0.25'],
        'export': ['onnx', 'onnxscript>=0.5', 'onnxruntime'],
        'cam': ['grad-cam>=1.5', 'torchvision'],
        'docs': ['zensical>=0.0.73', 'mkdocstrings-python>=2.0'],
        'onedl-det': [*FORKS, 'onedl-mmdetection>=3.5.1'],
        'onedl-seg': [*FORKS, 'onedl-mmsegmentation>=1.4.2'],
        'onedl-cls': [*FORKS, 'onedl-mmpretrain>=1.3.6', 'torchvision'],
    },
    classifiers=[
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        *(f'Programming Language :: Python :: 3.{minor}'
          for minor in range(8, 14)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ])
