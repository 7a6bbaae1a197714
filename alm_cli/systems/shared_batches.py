"""One model for many threads: what they ask at the same time is answered in common batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

# How long what could be asked for now waits for others to ask for the same, unless told otherwise.
_PATIENCE_S = 0.05


class Request(Protocol):
    """What may be asked; requests with one `kind` can be answered together."""

    @property
    def kind(self) -> Hashable:
        """What those have in common that go together."""


Asked = TypeVar("Asked", bound=Request)


class Ticket(Generic[Asked]):
    """A request and, once it is `done`, its answer."""

    def __init__(self, request: Asked) -> None:
        self.request, self.kind = request, request.kind
        self.done = False
        self._since = time.monotonic()
        self._answer: Any = None
        self._error: BaseException | None = None

    @property
    def age_s(self) -> float:
        """For how long it has waited."""
        return time.monotonic() - self._since

    def close(self, answer: Any, error: BaseException | None = None) -> None:
        """Give the answer, or say why there is none."""
        self._answer, self._error, self.done = answer, error, True

    def answer(self) -> Any:
        """What was answered; raises what went wrong instead."""
        if self._error is not None:
            raise self._error
        return self._answer


class SharedBatches(Generic[Asked]):
    """Answers requests by `run`, at most `size` of one kind at a time, one batch after another.

    No thread is its own: of those that wait, one runs the next batch for all. It waits a moment
    for threads that have `joined` and ask nothing yet, unless the batch is full: `patience_s`.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Asked]], Sequence[Any]],
        size: int,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._run, self.size, self._patience_s = run, size, patience_s
        self._changed = threading.Condition()
        self._pending: list[Ticket[Asked]] = []
        self._joined = self._waiting = 0
        self._busy = False

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Say that this thread is going to ask."""
        with self._changed:
            self._joined += 1
        try:
            yield
        finally:
            with self._changed:
                self._joined -= 1
                self._changed.notify_all()

    def submit(self, requests: Sequence[Asked]) -> list[Ticket[Asked]]:
        """Ask without waiting; some thread has to `wait` for anything to happen."""
        tickets = [Ticket(request) for request in requests]
        with self._changed:
            self._pending += tickets
        return tickets

    def withdraw(self, tickets: Sequence[Ticket[Asked]]) -> None:
        """Ask no longer."""
        with self._changed:
            self._pending = [ticket for ticket in self._pending if ticket not in tickets]

    def wait(self, tickets: Sequence[Ticket[Asked]]) -> None:
        """Until one of the tickets is done."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            try:
                while not any(ticket.done for ticket in tickets):
                    batch = None if self._busy else self._chosen()
                    if batch:
                        self._answer(batch)
                    else:
                        # Whoever is busy will tell when it is done.
                        self._changed.wait(None if self._busy else self._patience_s)
            finally:
                self._waiting -= 1

    def ask(self, request: Asked) -> Any:
        """The answer to one request."""
        tickets = self.submit([request])
        try:
            self.wait(tickets)
        finally:
            self.withdraw(tickets)
        return tickets[0].answer()

    def _chosen(self) -> list[Ticket[Asked]]:
        """The next batch, empty while it is better to wait; of all kinds the most wanted."""
        kinds: dict[Hashable, list[Ticket[Asked]]] = {}
        for ticket in self._pending:
            kinds.setdefault(ticket.kind, []).append(ticket)
        if not kinds:
            return []
        batch = max(kinds.values(), key=lambda tickets: min(len(tickets), self.size))
        patient = self._waiting < self._joined and batch[0].age_s < self._patience_s
        return [] if patient and len(batch) < self.size else batch[: self.size]

    def _answer(self, batch: list[Ticket[Asked]]) -> None:
        """Run a batch, letting others ask meanwhile."""
        self._busy = True
        self._pending = [ticket for ticket in self._pending if ticket not in batch]
        self._changed.release()
        try:
            answers = self._run([ticket.request for ticket in batch])
            for ticket, answer in zip(batch, answers, strict=True):
                ticket.close(answer)
        except BaseException as error:
            for ticket in batch:
                ticket.close(None, error)
            # What is no error of the request, such as an interrupt, is this thread's own.
            if not isinstance(error, Exception):
                raise
        finally:
            self._changed.acquire()
            self._busy = False
            self._changed.notify_all()
