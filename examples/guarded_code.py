"""Code that a model writes is judged before the tool sees it: stage `code` of the policy.

Run it with `python -m examples.guarded_code`. The replies of the model are a script here (`ScriptedEngine`): the
embedded model is too small to be relied on for writing code. Everything else is the real thing: the parsing of the
call, the default policy with its shields, the tool. Put a model's name in the engine's place and the guard stays.
"""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable
from typing import Annotated

from agentkit import Agent, Code, RunStatus, ToolError, tool
from agentkit.testing import ScriptedEngine

# No power, no shift: a short expression must not be able to ask for an endless number.
OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}
SEEN: list[str] = []


@tool(effect="read")
def calculate(code: Annotated[str, Code("python")]) -> float:
    """Calculate the value of an arithmetic expression written in Python.

    Args:
        code: The expression, for instance "2 * (3 + 4)".
    """
    SEEN.append(code)
    return evaluate(ast.parse(code, mode="eval").body)


def evaluate(node: ast.expr) -> float:
    """Return the value of an expression of numbers and operators; nothing is ever executed."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in OPERATORS:
            return OPERATORS[type(sign)](evaluate(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            return OPERATORS[type(sign)](evaluate(left), evaluate(right))
        case _:
            raise ToolError(f"{type(node).__name__} is not arithmetic; use numbers, + - * / and brackets")


def ask(question: str, *, code: str, answer: str) -> None:
    """Run one turn in which the model calls the tool with this code, and print what became of it."""
    call = json.dumps({"name": "calculate", "parameters": {"code": code}})
    agent = Agent(ScriptedEngine([call, answer]), instructions="You calculate.", tools=[calculate])
    result = agent.run_sync(question)
    print(f"\nuser:    {question}\ncode:    {code}\nstatus:  {result.status.value}")
    if result.status is RunStatus.COMPLETED:
        tool_result = next(message for message in result.messages if message.tool_name == "calculate")
        print(f"result:  {tool_result.content}\nanswer:  {result.output}")
    elif (decision := result.blocked_by) is not None:
        print(f"blocked: at stage {decision.stage.value} by shield {decision.shield}: {decision.category}")
        print(f"reason:  {decision.reason}")


if __name__ == "__main__":
    ask("What is 6 times the sum of 3 and 4?", code="6 * (3 + 4)", answer="It is 42.")
    ask("Tidy up the disk.", code="__import__('os').system('rm -rf /')", answer="Done.")
    print(f"\nThe tool saw: {SEEN}")
