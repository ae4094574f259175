"""A model's Python runs in a sandbox: a session that keeps its variables, no network, no files of the host.

Run it with `python -m examples.code_interpreter`. It needs bubblewrap (Debian's package `bubblewrap`). The replies of
the model are a script here (`ScriptedEngine`): the embedded model is too small to be relied on for writing code.
Everything else is the real thing: the policy that judges the code, the approval, the sandbox, the file that comes back.
"""

from __future__ import annotations

import asyncio
import json

from agentkit import Agent, ApprovalRequest, Attachment, SandboxLimits, code_interpreter
from agentkit.testing import ScriptedEngine

TURNS = {
    "Which squares are below 50?": "squares = [n * n for n in range(8)]\nsquares",
    "Write their sum into a file.": "open('sum.txt', 'w').write(str(sum(squares)))",
    "Who has an account here?": "open('/etc/passwd').read()",
    "Count for ever.": "while True: pass",
    "Which squares were they?": "squares",
    "Tidy up the disk.": "__import__('os').system('rm -rf /')",
}


async def approve(request: ApprovalRequest) -> bool:
    """Say yes to every call. The default policy asks before code runs; here a person would look at it."""
    return True


async def keep(files: tuple[Attachment, ...]) -> None:
    for file in files:
        print(f"file:   {file.name} holds {file.content.decode()!r}")


def replies() -> list[str]:
    calls = [
        json.dumps({"name": "code_interpreter", "parameters": {"code": code}}) for code in TURNS.values()
    ]
    return [reply for call in calls for reply in (call, "Done.")]


async def main() -> None:
    interpreter = code_interpreter(limits=SandboxLimits(seconds=2.0), keep_files=keep)
    agent = Agent(ScriptedEngine(replies()), tools=[interpreter], approver=approve)
    async with agent, agent.session("alice/42") as session:
        for question, code in TURNS.items():
            print(f"\nuser:   {question}\ncode:   {code}")
            result = await session.run(question)
            for message in result.messages:
                if message.tool_name is not None:
                    print(message.content)
            if result.blocked_by is not None:
                print(f"blocked at stage {result.blocked_by.stage}: {result.blocked_by.category}")


if __name__ == "__main__":
    asyncio.run(main())
