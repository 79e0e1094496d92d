"""A page in the browser that tries a model, for this machine alone."""
import os
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Iterator, Optional
from unittest.mock import patch

import gradio as gr

from .predict import Predictor

HOST = '127.0.0.1'


def build_page(predictor: Predictor, title: str) -> gr.Interface:
    """The page of a model: a picture goes in, and comes out drawn, with what
    was counted."""
    def predict(path: Optional[str], threshold: float):
        if path is None:
            return None, ''
        image = predictor.read(path)
        sample, found = predictor.run(image)
        predictor.threshold = threshold  # one picture is predicted at a time
        picture = predictor.picture(image, sample)
        return picture[..., ::-1], predictor.describe(found)

    return gr.Interface(
        predict, [
            gr.Image(label='Picture', type='filepath', image_mode=None,
                     sources=['upload', 'clipboard'], height=300),
            gr.Slider(0, 1, predictor.threshold, step=0.01, label='Score from',
                      visible=predictor.task == 'detection'),
        ], [  # a result has no button for sharing
            gr.Image(label='Result', elem_id='result', format='png',
                     buttons=['download', 'fullscreen']),
            gr.Textbox(label='Found', elem_id='found'),
        ], title=title, live=True, flagging_mode='never',
        analytics_enabled=False)


@contextmanager
def serve(predictor: Predictor, title: str) -> Iterator[gr.Interface]:
    """Serves the page on this machine, in a thread."""
    # At the start gradio asks its own page, which no proxy can reach. By
    # default it keeps pictures where all users can read them.
    no_proxy = f'{os.environ.get("no_proxy", "")},{HOST}'
    with TemporaryDirectory(prefix='mmiformer-') as folder, patch.dict(
            os.environ, no_proxy=no_proxy, GRADIO_TEMP_DIR=folder):
        page = build_page(predictor, title)
        page.launch(
            server_name=HOST, share=False, footer_links=[], run_history=False,
            enable_monitoring=False, ssr_mode=False, mcp_server=False,
            show_error=True, quiet=True, prevent_thread_lock=True)
        try:
            yield page
        finally:
            page.close()
