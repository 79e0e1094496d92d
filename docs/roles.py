"""Docstrings' reStructuredText as Markdown, for mkdocstrings."""
import re

import griffe

ROLE = re.compile(r':\w+:`(?:~[\w.]*\.)?\.?(\w[\w.]*)`')
LITERAL = re.compile(r'^( *)::\n|(?<=\w)::$', re.MULTILINE)


class Roles(griffe.Extension):
    """:class:`~a.b.C` becomes `C`, and the ``::`` of a literal block goes."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            text = ROLE.sub(r'`\1`', obj.docstring.value)
            obj.docstring.value = LITERAL.sub(
                lambda found: '' if found[0].strip() == '::' and found[1]
                is not None else ':', text)
