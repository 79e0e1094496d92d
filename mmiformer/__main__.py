"""``python -m mmiformer``, as the command ``mmiformer``."""
from mmiformer_cli import main

main()
