"""What a shield that runs a model is shown of a text: the text itself, and every reading that it may hide.

Knows when reading takes a worker thread; how a text is disguised is known to `normalize`.
"""

from __future__ import annotations

from functools import partial

import anyio.to_thread

from agentkit.shields.normalize import View, hidden_views

# Shorter texts are read in less time than it takes to reach a worker thread.
_INLINE_CHARACTERS = 300


async def readings_of(text: str) -> tuple[View, ...]:
    """Return the text as it is, first, and then what it may hide."""
    if len(text) <= _INLINE_CHARACTERS:
        return (View(text=text), *hidden_views(text))
    hidden = await anyio.to_thread.run_sync(partial(hidden_views, text), abandon_on_cancel=True)
    return (View(text=text), *hidden)
