"""Reading a config."""
from mmiformer.config import load_config


def test_work_dir(configs, tmp_path):
    cfg = str(configs / 'mask_rcnn/iformer_s_1x.py')
    assert load_config(cfg).work_dir == 'work_dirs/mask_rcnn/iformer_s_1x'
    assert load_config(cfg, work_dir='out').work_dir == 'out'
    assert load_config(cfg, dict(work_dir='mine')).work_dir == 'mine'
    (tmp_path / 'own.py').write_text('a = 1')
    assert load_config(str(tmp_path / 'own.py')).work_dir == 'work_dirs/own'
