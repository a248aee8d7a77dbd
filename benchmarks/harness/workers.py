# SPDX-License-Identifier: Apache-2.0
"""Worker processes: one per client, told what to do over a pipe."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from types import TracebackType
from typing import Any

from .peers import PROGRAMS, ROOT, Client, Failed, command

__all__ = ["Answer", "Failed", "Team", "Worker"]

Answer = dict[str, Any]
PATIENCE = 120.0  # seconds for one answer


class Worker:
    """A process that drives one client.

    Attributes:
        patience: seconds to wait for an answer.

    Args:
        client: which.
        endpoint: URL of etcd.
        options: ``name=value`` arguments for its program.
        environment: variables to set.
        python: another interpreter for a program of the benchmark's own environment.
    """

    def __init__(
        self,
        client: Client,
        endpoint: str,
        options: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        python: str = "",
    ) -> None:
        self.name = client.name
        self.patience = PATIENCE
        found = command(client)
        if isinstance(found, str):
            raise Failed(found)
        if python:
            found = [python, *found[1:]]
        variables = {**os.environ, **(environment or {})}
        if not client.environment:
            paths = [str(ROOT), *filter(None, [variables.get("PYTHONPATH")])]
            variables["PYTHONPATH"] = os.pathsep.join(paths)
        elif client.environment != "go":
            variables["PYTHONPATH"] = str(PROGRAMS)
        self._process = subprocess.Popen(
            [*found, endpoint, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not os.environ.get("BENCH_VERBOSE") else None,
            text=True,
            env=variables,
        )
        self.works = self._answer()["ready"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, do: str, **fields: Any) -> None:
        """Give a command without waiting for the answer, which `answer` then takes."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self._process.stdin.flush()

    def do(self, do: str, **fields: Any) -> Answer:
        """Give a command and wait for its answer."""
        self.tell(do, **fields)
        return self.answer()

    def answer(self) -> Answer:
        answer = self._answer()
        if "error" in answer:
            raise Failed(str(answer["error"]))
        return answer

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self.patience)[0]:
            raise Failed(f"no answer within {self.patience:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(10)
            text = self._process.stderr.read().strip() if self._process.stderr else ""
            raise Failed((text.splitlines() or ["its process ended"])[-1][:300])
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Team:
    """Workers for several clients; those that cannot start are named in `missing`.

    Attributes:
        workers: by the client's name, in the order given.
        missing: the client's name to the reason.
    """

    def __init__(self, clients: tuple[Client, ...], endpoint: str) -> None:
        self.workers: dict[str, Worker] = {}
        self.missing: dict[str, str] = {}
        for client in clients:
            try:
                self.workers[client.name] = Worker(client, endpoint)
            except Failed as error:
                self.drop(client.name, str(error))

    def drop(self, name: str, reason: str) -> None:
        """Go on without a client."""
        self.missing[name] = reason
        print(f"  dropped: {name}: {reason}", file=sys.stderr, flush=True)
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.close()

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers.values():
            worker.close()
