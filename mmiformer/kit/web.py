"""A page in the browser that tries a model, for this machine alone."""
import os
import threading
from pathlib import Path
from typing import Optional
from unittest.mock import patch

import gradio as gr

from .predict import Predictor

HOST = '127.0.0.1'


def build_page(predictor: Predictor, title: str) -> gr.Blocks:
    """The page of a model: a picture goes in, and comes out drawn, with what
    was counted.

    Args:
        predictor: See :func:`~.predict.load_predictor`.
        title: What stands above.
    """
    lock = threading.Lock()  # an inferencer has one visualizer

    def predict(path: Optional[str], threshold: float):
        if path is None:
            return None, ''
        try:
            image = predictor.read(path)
        except Exception as error:  # of many types, by format
            raise gr.Error(f'{Path(path).name}: {error}') from error
        with lock:
            sample, found = predictor.run(image)
            picture = predictor.picture(image, sample, threshold)
        counts = predictor.count(found, threshold)
        return picture[..., ::-1], predictor.describe([counts])

    with gr.Blocks(title=title, analytics_enabled=False,
                   delete_cache=(3600, 86400)) as page:
        gr.Markdown(f'# {title}')
        with gr.Row():
            with gr.Column(scale=1):
                picture = gr.Image(
                    label='Picture', type='filepath', image_mode=None,
                    sources=['upload', 'clipboard'], height=300)
                threshold = gr.Slider(
                    0, 1, predictor.threshold, step=0.01, label='Score from',
                    visible=predictor.task == 'detection')
            with gr.Column(scale=2):
                drawn = gr.Image(  # without its button for sharing
                    label='Result', elem_id='result', interactive=False,
                    format='png', buttons=['download', 'fullscreen'])
                text = gr.Textbox(label='Found', elem_id='found')
        for part in (picture, threshold):
            part.change(predict, [picture, threshold], [drawn, text],
                        trigger_mode='always_last', api_name='predict')
    return page


def serve(page: gr.Blocks, port: Optional[int] = None) -> str:
    """Serves a page on this machine, in a thread, until ``page.close()``.

    Args:
        page: The page of :func:`build_page`.
        port: By default the first free one from 7860 on.

    Returns:
        Its address.

    Raises:
        OSError: The port is in use.
    """
    # At the start gradio asks its own page, which no proxy can reach.
    no_proxy = ','.join(filter(None, (os.environ.get('no_proxy'), HOST)))
    with patch.dict(os.environ, no_proxy=no_proxy):
        _, address, _ = page.launch(
            server_name=HOST, server_port=port, share=False, footer_links=[],
            run_history=False, enable_monitoring=False, ssr_mode=False,
            mcp_server=False, show_error=True, quiet=True,
            prevent_thread_lock=True)
    return address
