"""`sealift local` with a notifier that loses one event: `python -m tests.acceptance.deaf local …`."""

from __future__ import annotations

from unittest import mock

from jobs.cli import main
from jobs.local.notifications import Exchange
from jobs.local.notifier import Notifier

LOST = "events/1.txt"
_add = Notifier.add


def add_all_but_one(notifier: Notifier, exchange: Exchange) -> None:
    """Queue what the exchange changed, unless it is about the lost key."""
    if LOST not in exchange.target:
        _add(notifier, exchange)


if __name__ == "__main__":
    with mock.patch.object(Notifier, "add", add_all_but_one):
        main()
