"""Looks at both sides of a key, in words: `A2` is an object of this content and date, `M3` a delete marker."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from jobs.core.evidence import Verdict, is_md5
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.sync.edges import NOBODY, Edge, End, Look, Version, is_likely
from jobs.sync.table import Overwrite, Rules

A, B, C = (letter * 32 for letter in "abc")
ALL, CURRENT, UNKEPT = Rules(all_versions=True), Rules(), Rules(keeps_versions=False)
MIRROR, NEVER = ALL._replace(mirrors_deletes=True), ALL._replace(overwrite=Overwrite.NEVER)
Pairs = tuple[tuple[int, int], ...]


def look(
    source: str,
    copies: str,
    *,
    named: Collection[int] | None = None,
    unknown: Pairs = (),
    different: Pairs = (),
    agreed: str = "",
    blocked: Collection[int] = (),
    is_own: bool = False,
    is_damaged: bool = False,
    is_compared: bool = True,
    trusts_etags: bool = True,
) -> Look:
    """`?` is an object whose ETag does not say what it is. All others have been compared, if `is_compared`.

    `named`: by their places, all if it is None. `blocked`: source versions that cannot be read. `is_own`: this call
    wrote the first copy. `is_damaged`: the newest version is.
    """
    ours, theirs = ([item(word) for word in side.split()] for side in (source, copies))
    meant = ours if named is None else [ours[place] for place in named]
    looked = Look(ours, theirs, meant, agreed_etags={agreed}, trusts_etags=trusts_etags)
    for one, other in itertools.product(ours, theirs) if is_compared else ():
        edge = looked.edge(one, other)
        if edge is Edge.UNASKED and is_md5(one.etag) and is_md5(other.etag):
            learn(looked, one.place, other.place, is_likely(one, other) and one.etag != agreed)
        if edge is Edge.SAME:
            learn(looked, one.place, other.place, True)
    for pairs, is_same in ((unknown, None), (different, False)):
        for here, there in pairs:
            learn(looked, here, there, is_same)
    for place in blocked:
        ours[place].blocked = End(Status.BLOCKED, Reason.ARCHIVED)
    if is_damaged:
        ours[-1].blocked = End(Status.DAMAGED, Reason.DAMAGED)
    if is_own:
        theirs[0].owner = NOBODY
    return looked


def learn(looked: Look, here: int, there: int, is_same: bool | None) -> None:
    version = looked.source[here]
    version.compared = {**version.compared, looked.copies[there]: Verdict(is_same)}


def item(word: str) -> Version:
    content, at = word[0], float(word[1:])
    if content == "M":
        return Version(word, True, None, None, at)
    return Version(word, False, 1, f"{word}-2" if content == "?" else content.lower() * 32, at)
