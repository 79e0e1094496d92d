"""Predictions of images that have the same name."""
from mmiformer.engine.outputs import unique_names


def test_names_that_are_unique_already_stay():
    assert unique_names(['a/1.png', 'b/2.png', 'a/1.png']) == {}


def test_folders_become_part_of_names():
    assert unique_names([
        'x/day/1.png', 'x/night/1.png', 'x/night/2.png']) == {
            'x/day/1.png': 'day_1', 'x/night/1.png': 'night_1'}


def test_no_name_is_given_twice():
    paths = ['x/1.png', 'x/a/1.png', 'x/a/1.jpg', 'x/a_1.png', 'x/a/1_jpg.png',
             '1.png']
    names = unique_names(paths)
    assert '1.png' in names and len({*names.values(), 'a_1', '1_jpg'}) == 6
