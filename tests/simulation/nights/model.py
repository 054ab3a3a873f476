"""The reference model of the nights' functions: what was to be started, published and told, and what was."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from jobs.errors import ExitCode, StoreError
from scheduler.backlog import BacklogRow
from tests.doubles.memory_buckets import Version
from tests.simulation.copies.facts import Judge
from tests.simulation.copies.schedule import LEDGER
from tests.simulation.engine.processes import EPOCH, Observer, Process, Request
from tests.simulation.engine.world import World
from tests.simulation.nights.batch_double import BEHIND, Batch, Job
from tests.simulation.nights.lambda_double import Functions, Topic
from tests.simulation.nights.mail import Mailbag
from tests.simulation.nights.schedule import PAIRS, NightSchedule
from tests.simulation.nights.work import Work

_BEGINS_SECONDS = {"east": (9 - 7.5) * 3600, "west": (-5 - 17.5) * 3600}
"""What brings UTC to a clock that shows midnight when the pair's night begins."""
_PER_INVOCATION = re.compile(r"sealift-(east|west)-backfill-request-request-\d+")
_RECONCILE = re.compile(r"sealift-(?P<pair>\w+)-reconcile-(?P<one>.{17})-(?P<other>.{17})")
OVERTAKEN = "who had submitted a reconciliation was cut off, and newer reports were there when it was tried again"
ORPHAN = "a second job, whose submitter was cut off, was started, and ended at once"


class NightModel(Judge, Observer):
    """Watches a schedule of nights. `expected`: the names of the jobs to be started, and why."""

    world: World
    batch: Batch

    def __init__(self, schedule: NightSchedule):
        super().__init__()
        self.schedule = schedule
        self.nonsense: set[Process] = set()
        self.expected: dict[str, str] = {}
        self.files: dict[str, dict[str, list[BacklogRow]]] = {pair: {} for pair in PAIRS}
        self.mailbag: Mailbag
        self._rows: list[tuple[str, str]] = []
        self._asked: list[Mapping[str, Any]] = []
        self._late: set[str] = set()
        self._unanswered: set[str] = set()

    def watch(self, world: World, batch: Batch, topic: Topic, work: Work, functions: Functions) -> None:
        """What there is to look at."""
        self.world, self.batch, self.work, self._functions = world, batch, work, functions
        self.mailbag = Mailbag(self, topic)

    # What was asked for.

    def night(self, pair: str, at_seconds: float) -> None:
        """The pair's night at a loop time is to be started."""
        day = datetime.fromtimestamp(EPOCH + at_seconds + _BEGINS_SECONDS[pair], UTC).date()
        self.expected[f"sealift-{pair}-nightly-{day}"] = "its night has begun"

    def backfill(self, pair: str, once: str) -> None:
        self.expected[f"sealift-{pair}-backfill-id-{once}"] = "a person asked for it"

    def thawed(self, run_id: str) -> None:
        self.expected[f"sealift-restore-{run_id}"] = "what it waits for can be read"

    def restored(self, bucket: str, key: str) -> None:
        pair = bucket.partition("-")[0]
        if pair in PAIRS:
            self._rows.append((pair, key))

    def handed_over(self, pair: str, rows: Sequence[BacklogRow]) -> None:
        self._rows += [(pair, row.key) for row in rows]

    def asked_for(self, payload: Mapping[str, Any]) -> None:
        """A person's call has worked."""
        self._asked.append(payload)

    def answered_start(self, process: Process, started: Sequence[Mapping[str, Any]]) -> None:
        for each in started:
            stands = self.recorded(each["job_name"])
            self.demand(stands == each["job_id"], "the answer names the job that stands", f"{process.name}: {each}")

    def twin(self, process: Process) -> None:
        self._functions.repeat()

    def broke(self, process: Process, error: BaseException) -> None:
        self.violate("only errors of the tree", f"{process.name}: {type(error).__name__}: {error}")

    # What is there.

    def document(self, name: str) -> Any:
        """A document of the ledger; None where there is none."""
        there = self.world.versions(LEDGER, f"l/{name}")
        return json.loads(there[-1].data) if there else None

    def recorded(self, name: str) -> str | None:
        """The id of the job of that name that stands."""
        found = self.document(f"starts/{name}.submitted.json")
        return None if found is None else str(found["job_id"])

    def standing(self, name: str) -> Job | None:
        """The job of that name that does the work."""
        recorded = self.recorded(name)
        return next((each for each in self.batch.jobs if each.id == recorded), None)

    def stands(self, job: Job) -> bool:
        """Whether no other job of its name does, as far as is known now."""
        return self.recorded(job.name) in (None, job.id)

    def manifests(self, pair: str) -> list[dict[str, Any]]:
        """The published manifests, by number."""
        folder = f"l/manifests/pair={pair}/"
        keys = [key for key in self.world.keys(LEDGER) if key.startswith(folder) and key.endswith(".json")]
        return [self.document(key.removeprefix("l/")) for key in keys]

    def taken(self, pair: str) -> set[str]:
        """What the latest manifest says that manifests have taken."""
        published = self.manifests(pair)
        return {*published[-1]["taken"], *self._settled(pair, published[-1])} if published else set()

    def _settled(self, pair: str, manifest: Mapping[str, Any]) -> set[str]:
        """The objects of the backlog that a manifest does not name, since all of so early a stamp are taken."""
        return {name for name in self.files[pair] if int(name.partition("-")[0]) < manifest["taken_before"]}

    def ends_of(self, run_id: str) -> list[Job]:
        """The ended jobs that were to make the run's report, but those that never began since the work had failed."""
        ended = []
        for job in self.batch.jobs:
            is_report = job.name.startswith(run_id) and job.name.endswith("-report") and job.reason != BEHIND
            is_closing = job.name.startswith(f"sealift-report-{run_id}-") and self.stands(job)
            if job.ended_at is not None and (is_report or is_closing):
                ended.append(job)
        return ended

    # What the functions do.

    def asked(self, request: Request) -> None:
        self.mailbag.asked(request)

    def effect(self, request: Request, before: Version | None, result: Any) -> None:
        if isinstance(result, StoreError):
            return
        name, who = request.name, f"{request.process.name}: {request.name} {request.key}"
        if name in ("put", "SubmitJob", "Invoke", "Publish"):
            self.demand(request.process not in self.nonsense, "nonsense is refused", who)
        if name == "put":
            self._wrote(request.key.removeprefix("l/"), who)
        elif name == "SubmitJob":
            self._submitted(request, result["jobId"], who)
        elif name == "Publish":
            self.mailbag.published()

    def _wrote(self, name: str, who: str) -> None:
        there = self.world.versions(LEDGER, f"l/{name}")
        self.demand(len(there) == 1, "the ledger is written once", who)
        folder, _, file = name.rpartition("/")
        if folder.startswith("backlog/"):
            pair = folder.partition("=")[2]
            self.files[pair][file] = [BacklogRow(**json.loads(line)) for line in there[-1].data.splitlines()]
        elif folder.startswith("manifests/") and name.endswith(".json"):
            document = self.document(name)
            if document["manifest"]:
                self.demand(len(self._csv(document)) == document["rows"], "a manifest is published whole", who)

    def _submitted(self, request: Request, job_id: str, who: str) -> None:
        asked, name = request.arguments[2], request.key
        if request.is_late:
            self._late.add(job_id)
        if request.error is not None:
            self._unanswered.add(job_id)
        claim = self.document(f"starts/{name}.json")
        self.demand(claim, "claimed before it is submitted", who)
        if claim:
            command = asked["containerOverrides"]["command"]
            self.demand(command == claim["command"], "what is claimed is submitted", f"{who}: {command}")
        pair = asked["tags"].get("sealift:pair")
        self.demand(pair in (None, *PAIRS), "only the policy's pairs", who)
        found = _RECONCILE.fullmatch(name)
        if found:
            whole = self._is_reported(found["pair"], "source", found["one"])
            whole &= self._is_reported(found["pair"], "hot", found["other"])
            self.demand(whole and found["one"][:10] == found["other"][:10], "both reports are complete", who)
            self.expected.setdefault(name, "both reports are there")

    def _is_reported(self, pair: str, side: str, stamp: str) -> bool:
        folder = f"inventory/{pair}-{side}/daily/{stamp}/manifest."
        return all(self.world.versions(LEDGER, f"{folder}{kind}") for kind in ("json", "checksum"))

    def _csv(self, document: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
        """Bucket, key and version id of a manifest's rows."""
        key = str(document["manifest"]).removeprefix(f"s3://{LEDGER}/")
        there = self.world.versions(LEDGER, key)
        rows = [line.split(",") for line in there[-1].data.decode().splitlines()] if there else []
        return [(row[0], unquote_plus(row[1]), row[2] or None if len(row) > 2 else None) for row in rows]

    # The end.

    def check_end(self) -> None:
        """What must be true when nothing is left to do."""
        for pair in PAIRS:
            self._check_backlog(pair)
            self._expect_reconcile(pair)
        for job in self.batch.jobs:
            if job.name.endswith("-work") and job.status == "FAILED":
                self.expected[f"sealift-report-{job.name.removesuffix('-work')}"] = "its work has failed"
        jobs = defaultdict[str, list[Job]](list)
        for job in self.batch.jobs:
            if job.submitter is not None:
                jobs[job.name].append(job)
        for name, why in sorted(self.expected.items()):
            self.demand(jobs[name], "what is to be started is started", f"{name}: {why}")
        for name, some in sorted(jobs.items()):
            if some:
                self._check_started(name, some)
        self.mailbag.check_end(sorted(jobs))

    def _check_started(self, name: str, some: list[Job]) -> None:
        is_asked = name in self.expected or _PER_INVOCATION.fullmatch(name)
        self.demand(is_asked, "nothing is started that nobody asked for", name)
        kind = name.removeprefix("sealift-").removeprefix("east-").removeprefix("west-").partition("-")[0]
        self.branches[f"start {kind}: {len(some)} submitted"] += 1
        stands = self.standing(name)
        if stands is None and _RECONCILE.fullmatch(name) and all(self._is_cut_off(job) for job in some):
            self.known_limits[OVERTAKEN] += 1
            return
        self.demand(stands is not None, "what is started is recorded", name)
        if stands is None:
            return
        is_well = stands.terminated_at is None and stands.started_at is not None
        self.demand(
            is_well, "the job that stands does its work", f"{name}: {stands.id} {stands.status} {stands.reason}"
        )
        for job in some:
            if job is not stands and job.started_at is not None:
                self.demand(not job.does_work, "one job does the work", f"{name}: {job.id} beside {stands.id}")
                if self._is_orphan(job, stands):
                    self.known_limits[ORPHAN] += 1
                else:
                    self.violate("one job is started", f"{name}: {job.id} beside {stands.id}")

    def _is_orphan(self, job: Job, stands: Job) -> bool:
        """Whether it could not be ended before it was started: Batch has no token for a submission, and lists late."""
        if job.submitter not in self.world.network.struck:  # type: ignore[attr-defined]  # a StrictNetwork
            return False
        is_other = job.id in self._unanswered and stands.submitter is not job.submitter  # found instead of its own
        is_hidden = any(each.id in self._late or each.is_unseen for each in (job, stands))
        return is_hidden or is_other or self._is_cut_off(job) or job.terminated_at is not None

    def _is_cut_off(self, job: Job) -> bool:
        """Whether who submitted it died, or failed, before it was done."""
        return job.submitter is not None and (job.submitter.is_dead or job.submitter.code != ExitCode.DONE)

    def _expect_reconcile(self, pair: str) -> None:
        latest = []
        for side in ("source", "hot"):
            folder = f"inventory/{pair}-{side}/daily/"
            keys = [key for key in self.world.keys(LEDGER) if key.startswith(folder)]
            stamps = {key.split("/")[3] for key in keys}
            latest.append(max((each for each in stamps if self._is_reported(pair, side, each)), default=""))
        if all(latest) and latest[0][:10] == latest[1][:10]:
            self.expected[f"sealift-{pair}-reconcile-{latest[0]}-{latest[1]}"] = "both reports are complete"

    def _check_backlog(self, pair: str) -> None:
        """Every row is in one manifest, each manifest has what it takes, and the runs of each are to be started."""
        files, published = self.files[pair], self.manifests(pair)
        taken_by = dict[str, int]()
        before = set[str]()
        listed = list[str]()
        self.demand(
            [each["number"] for each in published] == [*range(1, len(published) + 1)], "manifests are numbered", pair
        )
        for each in published:
            number, new = each["number"], set(each["taken"]) - before
            new |= {name for name in self._settled(pair, each) if name not in taken_by}
            before = set(each["taken"])
            twice = sorted(name for name in new if name in taken_by)
            self.demand(not twice, "no row is published twice", f"{twice} by {pair} {number} and before")
            taken_by |= dict.fromkeys(new, number)
            rows = self._csv(each) if each["manifest"] else []
            wanted = {(row.bucket, row.key, row.version_id) for name in new for row in files[name]}
            listed += each["prefixes"] + ([row[1] for row in rows] if not new else [])
            is_exact = set(rows) == wanted and len(rows) == len(wanted)
            self.demand(is_exact or not new, "a manifest has the rows that it takes", f"{pair} {number}: {rows}")
            self.branches[f"manifest {'backlog' if new else 'listed'}: {min(len(rows), 4)} rows"] += 1
            stem = f"sealift-{pair}-backfill-{number:06d}"
            names = [stem] * bool(rows) + [f"{stem}-{place}" for place in range(len(each["prefixes"]))]
            self.expected |= dict.fromkeys(names, "its manifest is published")
        for name in files:
            self.demand(name in taken_by, "no row is lost", f"{pair}: {name} is in no manifest")
        stored = {row.key for name in files for row in files[name]}
        for of, key in self._rows:
            self.demand(of != pair or key in stored, "no row is lost", f"{pair}: {key} is in no backlog")
        self._check_listed(pair, listed)

    def _check_listed(self, pair: str, listed: Sequence[str]) -> None:
        for payload in self._asked:
            for text in (*payload.get("keys", ()), *payload.get("prefixes", ())) if payload["pair"] == pair else ():
                self.demand(text in listed, "no row is lost", f"{pair}: {text} was listed by a person")
                if listed.count(text) > 1:
                    self.known_limits["who lists keys again after an answer was lost gets two manifests"] += 1
