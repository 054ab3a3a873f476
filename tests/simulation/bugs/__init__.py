"""Planted bugs: each a small patch in memory that breaks a promise, so that one sees whether the simulator notices."""

from tests.simulation.bugs import (
    answers,
    archives,
    beliefs,
    books,
    events,
    expiries,
    last_copies,
    leases,
    nights,
    requests,
)
from tests.simulation.bugs.bug import Bug

BUGS = [
    *requests.BUGS,
    *beliefs.BUGS,
    *answers.BUGS,
    *books.BUGS,
    *events.BUGS,
    *archives.BUGS,
    *expiries.BUGS,
    *leases.BUGS,
    *last_copies.BUGS,
    *nights.BUGS,
]

__all__ = ["BUGS", "Bug"]
