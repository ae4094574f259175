"""Sessions that move between two workers at every turn, over two model servers and one PostgreSQL database.

Run it with `python -m examples.workers --database postgresql://user@host/database --servers URL URL`. The servers are
vLLM's, started as docs/scaling.md says, here with `--served-model-name smollm2`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import count

CONVERSATIONS = {
    "alice/1": ["What is the capital of France?", "And of Italy?", "Which of the two is larger?"],
    "bob/1": ["What do bees make?", "Who eats it?", "Is it sweet?"],
}


def main() -> None:
    arguments = parse_arguments()
    workers = [start_worker(name, arguments) for name in ("worker 1", "worker 2")]
    turns = count()
    for questions in zip(*CONVERSATIONS.values(), strict=True):
        for session, question in zip(CONVERSATIONS, questions, strict=True):
            ask(workers[next(turns) // len(CONVERSATIONS) % len(workers)], session, question)
    for worker in workers:
        worker.communicate()


def start_worker(name: str, arguments: argparse.Namespace) -> subprocess.Popen[str]:
    """Start a worker. It could as well be a container on another machine, behind a queue or a web server."""
    command = [sys.executable, "-m", "examples.workers.worker", name, arguments.database]
    command += [arguments.model, arguments.tokenizer, *arguments.servers]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(worker: subprocess.Popen[str], session: str, question: str) -> None:
    """Have a worker run a turn, and print what came of it."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    print(json.dumps({"session": session, "text": question}), file=worker.stdin, flush=True)
    line = worker.stdout.readline()
    if not line:
        sys.exit(f"a worker ended with exit code {worker.wait()}")
    said = json.loads(line)
    print(
        f"{said['worker']}  {session:<8} {question:<31} {said['answer']!r:<70} "
        f"{said['messages']} messages, {said['cached']:.0%} cached"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.workers", description=__doc__)
    parser.add_argument("--database", required=True, help="postgresql://user:password@host:port/database")
    parser.add_argument("--servers", nargs="+", required=True, metavar="URL", help="the model servers")
    parser.add_argument("--model", default="smollm2", help="what the servers call the model")
    parser.add_argument("--tokenizer", default="smollm2-135m-instruct", help="the model's tokenizer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
