"""Predictions of images that have the same name."""
from mmiformer.kit.outputs import unique_names


def test_names_that_are_unique_already_stay():
    assert unique_names(['a/1.png', 'b/2.png', 'a/1.png']) == {}


def test_folders_become_part_of_names():
    assert unique_names([
        'x/day/1.png', 'x/night/1.png', 'x/night/2.png']) == {
            'x/day/1.png': 'day_1', 'x/night/1.png': 'night_1'}


def test_no_name_is_given_twice():
    """Nor one that another image has already."""
    assert unique_names([
        'x/1.png', 'x/a/1.png', 'x/a/1.jpg', '1.png', 'b/x_1.png',
        'b/x_1_png.png']) == {
            'x/1.png': 'x_1_png_', 'x/a/1.png': 'x_a_1',
            'x/a/1.jpg': 'x_a_1_jpg', '1.png': '1'}
