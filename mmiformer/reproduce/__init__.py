from .plan import Plan
from .recipes import RECIPES, Recipe, find_recipe
from .road import RunError, reproduce

__all__ = ['RECIPES', 'Plan', 'Recipe', 'RunError', 'find_recipe', 'reproduce']
