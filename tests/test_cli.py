"""The command mmiformer."""
import subprocess
import sys

import pytest

import mmiformer_cli


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['mmiformer', *words])
    mmiformer_cli.main()


def test_every_tool_has_a_word():
    """In a moment: nothing heavy is imported."""
    words = subprocess.check_output([sys.executable, '-c', (
        'import sys, mmiformer_cli; sys.argv = [""]; mmiformer_cli.main(); '
        'assert not {"torch", "mmengine", "mmiformer"} & {*sys.modules}')],
        text=True)
    for word in ('train', 'test', 'predict', 'check', 'flops', 'reproduce',
                 'spectrum', 'cam'):
        assert f'\n  {word} ' in words
    assert 'get_flops' not in words and 'nuclei' not in words


def test_a_word_is_its_tool(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, 'flops', '--help')
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and '--shape' in printed
    assert printed.startswith('usage: mmiformer flops [-h]')


def test_the_exit_status_is_the_tools(monkeypatch, tmp_path):
    """And what a tool does around its main is done, as in reproduce.py."""
    (tmp_path / 'tool.py').write_text('''"""Purpose."""
import sys
def main():
    return 2 if sys.argv[1:] == ['a'] else 0
if __name__ == '__main__':
    sys.exit(main())
''')
    monkeypatch.setattr(mmiformer_cli, 'TOOLS', tmp_path)
    for words, status in ((['a'], 2), ([], 0)):
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, 'tool', *words)
        assert ended.value.code == status


def test_a_wrong_word_names_the_nearest(monkeypatch):
    with pytest.raises(SystemExit, match="'predct'.*is it predict"):
        run(monkeypatch, 'predct')
    with pytest.raises(SystemExit, match="'xyz'.*choose from .*train"):
        run(monkeypatch, 'xyz')
