"""``python -m mmiformer``, as the command ``mmiformer``."""
from .cli import main

main()
