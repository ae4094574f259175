"""What went wrong in a request, in the words of this project. Knows no requests."""

from __future__ import annotations

import torch

from agentkit.errors import AgentKitError, InferenceError


def translated(error: BaseException, *, tokens: int, requests: int) -> AgentKitError:
    """Return the error that the caller of a request with so many tokens, one of so many, is to get."""
    if isinstance(error, AgentKitError):
        return error
    if is_out_of_memory(error):
        failure = InferenceError(
            f"out of memory with {tokens} tokens in the request and {requests} requests; "
            "run fewer at a time, or shorten the prompt"
        )
    else:
        failure = InferenceError(f"the engine failed in this request: {type(error).__name__}")
    failure.__cause__ = error
    return failure


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch or Python could not allocate; on a CPU torch says so only in its message."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
