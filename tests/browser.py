"""A person at the page of `mmiformer web`, played by a headless Chromium.

    python tests/browser.py http://127.0.0.1:7860 photo.jpg screenshot.jpg
"""
import shutil
import sys
from contextlib import contextmanager

CHROMIUM = next(filter(None, map(shutil.which, (
    'chromium', 'chromium-browser', 'google-chrome'))), None)


@contextmanager
def visit(address, picture):
    """Uploads a picture and waits for the result.

    Gives the page, and what it has asked for of other hosts.
    """
    from playwright.sync_api import sync_playwright
    foreign = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=['--no-sandbox'])
        page = browser.new_page(viewport=dict(width=1360, height=720))
        page.on('request', lambda request: foreign.append(request.url)
                if not request.url.startswith((address, 'data:', 'blob:'))
                else None)
        page.goto(address)
        page.set_input_files('input[type=file]', str(picture))
        page.locator('#result img').wait_for(timeout=120_000)
        page.wait_for_function(
            '[...document.images].every(image => image.complete)')
        yield page, foreign
        browser.close()


def found(page):
    """The text below the result."""
    return page.locator('#found textarea').input_value()


if __name__ == '__main__':
    with visit(sys.argv[1], sys.argv[2]) as (page, foreign):
        page.wait_for_timeout(2000)  # for what fades in
        page.screenshot(path=sys.argv[3])
        assert not foreign
