"""Checks of what carries events: the queue, rules, functions, schedules, dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from jobs.aws.readings import Unread
from jobs.doctor.evaluation import ServiceRequest, allows, lets_through
from jobs.doctor.facts import (
    ConcurrencyFacts,
    FunctionFacts,
    LetterFacts,
    PolicyFileFacts,
    QueueFacts,
    RuleFacts,
    ScheduleFacts,
)
from jobs.doctor.model import Check, Finding, cannot_say, failure, known, ok, warning
from jobs.reports.figures import human_seconds

APPLY = "run terraform apply"
VISIBILITY_TIMES = 6
"""https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html: the queue hides a
message for six times the function's timeout."""
KEPT_SECONDS_MIN = 86_400
"""The queue of events has to keep one for so long. Eight attempts alone take two hours."""
UNRESERVED = 100
"""Lambda keeps so much concurrency for functions that reserve none."""


def _queue(facts: QueueFacts) -> Finding:
    queue = known(facts.settings)
    if queue is None:
        return failure("there is no such queue: every event gets lost", APPLY)
    if queue.dead_letter_arn is None:
        return failure("it has no dead-letter queue: an event that fails is gone after some days", APPLY)
    dead = known(facts.dead)
    if dead is None:
        return failure(f"its dead-letter queue {facts.dead_name} does not exist", APPLY)
    if dead.arn != queue.dead_letter_arn:
        return failure(f"its dead letters go to {queue.dead_letter_arn}, not to {dead.name}", APPLY)
    return ok(f"its dead letters go to {dead.name}")


def _retention(facts: QueueFacts) -> Finding | None:
    """Whether an event, and then its dead letter, is kept until somebody can mend what is wrong."""
    queue, dead = known(facts.settings), known(facts.dead)
    if queue is None or queue.kept_seconds is None:
        return None
    kept = human_seconds(queue.kept_seconds)
    if queue.kept_seconds < KEPT_SECONDS_MIN:
        return failure(f"it keeps a message for {kept}: an event that has to wait longer gets lost", APPLY)
    if dead is not None and dead.kept_seconds is not None and dead.kept_seconds <= queue.kept_seconds:
        return warning(
            f"{dead.name} keeps a message for {human_seconds(dead.kept_seconds)}, of which it was up to {kept} here: "
            "a dead letter may be gone before anybody reads it",
            APPLY,
        )
    return ok(f"it keeps a message for {kept}, and its dead letters longer")


def _visibility(facts: QueueFacts) -> Finding | None:
    queue, backup = known(facts.settings), known(facts.backup)
    if backup is None or queue is None:
        return None
    wanted = VISIBILITY_TIMES * backup.timeout_seconds
    if queue.visibility_seconds < wanted:
        return warning(
            f"it hides a message for {queue.visibility_seconds} s: the function may get it twice, it needs {wanted} s",
            APPLY,
        )
    return ok("it hides a message for as long as the function may need")


def _senders(facts: QueueFacts) -> Finding | None:
    """Whether the queue's policy lets S3 and EventBridge send."""
    queue = known(facts.settings)
    if queue is None:
        return None
    if refused := _refused(queue.policy, known(facts.requests), "sqs:GetQueueAttributes"):
        return failure(f"its policy refuses {refused}: these events get lost", APPLY)
    return ok("its policy lets all senders in")


def _queue_key(facts: QueueFacts) -> Finding | None:
    """Whether senders may use the queue's KMS key."""
    queue = known(facts.settings)
    if queue is None or queue.key is None:
        return None
    key = known(facts.key)
    if key is None:
        return failure(f"its KMS key {queue.key} does not exist: every event gets lost", APPLY)
    if key.state != "Enabled":
        return failure(f"its KMS key {key.arn} is {key.state}: every event gets lost", "enable the key")
    if not key.is_customers:
        return failure("its KMS key is AWS's own, which S3 and EventBridge cannot use: every event gets lost", APPLY)
    policy = known(facts.key_policy)
    if refused := _refused(policy or {}, known(facts.key_requests), "kms:GetKeyPolicy"):
        return failure(f"the policy of its KMS key refuses {refused}: these events get lost", APPLY)
    return ok("all senders may use its KMS key")


def _refused(policy: Mapping[str, Any], requests: Iterable[ServiceRequest], permission: str) -> str:
    """Who is refused. Raises NotKnown where the policy says what is not understood here."""
    for request in requests:
        try:
            is_allowed = allows(policy, request)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            cannot_say(Unread(permission, f"{error}, which is not understood"))
        if not is_allowed:
            return f"{request.context.get('aws:sourcearn') or request.service} ({request.action})"
    return ""


def _mapping(facts: QueueFacts) -> Finding | None:
    if facts.settings is None:
        return None
    backup = known(facts.backup)
    if backup is None:
        return None  # what the line on the function says
    name = backup.arn.rpartition(":")[2]
    mappings = known(facts.mappings)
    ours = [each for each in mappings if each.function == name]
    if not ours:
        return failure(f"nothing takes its messages to {name}", APPLY)
    if others := sorted({each.function for each in mappings if each.function != name}):
        return failure(f"{', '.join(others)} takes messages of {name} away", "remove that event source mapping")
    enabled = [each for each in ours if each.state in ("Enabled", "Updating", "Enabling", "Creating")]
    if not enabled:
        return failure(f"the mapping that takes its messages to {name} is {ours[0].state}", "enable it: " + APPLY)
    if not all(each.reports_failures for each in enabled):
        return failure("the mapping ignores failures of single messages: it deletes them", APPLY)
    if any(each.is_filtered for each in enabled):
        return failure("the mapping has a filter: Lambda deletes each message that it leaves out", APPLY)
    return ok(f"{name} takes its messages")


def _age(facts: QueueFacts) -> Finding | None:
    queue, age = known(facts.settings), known(facts.oldest_seconds)
    if queue is None:
        return None
    if age is None and queue.messages:
        return warning(f"{queue.messages:,} events wait, and nobody measures since when", "look again in some minutes")
    if age is not None and age > facts.oldest_seconds_max:
        return failure(
            f"an event waits for {human_seconds(age)}, the policy promises {human_seconds(facts.oldest_seconds_max)}",
            "read the log of the function backup",
        )
    return ok("no event waits for long")


QUEUE_CHECKS = (
    Check("queue", _queue),
    Check("queue-policy", _senders),
    Check("queue-key", _queue_key),
    Check("queue-retention", _retention),
    Check("queue-visibility", _visibility),
    Check("queue-age", _age),
    Check("event-source", _mapping),
)


def _letters(facts: LetterFacts) -> Finding:
    queue = known(facts.settings)
    if queue is None:
        return failure("there is no such queue: what cannot be delivered gets lost", APPLY)
    if queue.messages:
        return failure(f"{queue.messages:,} dead letters wait", facts.advice)
    return ok("no dead letters")


LETTER_CHECKS = (Check("dead-letters", _letters),)


def _rule(facts: RuleFacts) -> Finding:
    rule = known(facts.settings)
    if rule is None:
        return failure("there is no such rule: its events get lost", APPLY)
    if not rule.is_enabled:
        return failure("the rule is disabled", "enable it: " + APPLY)
    for sample in known(facts.samples):
        try:
            is_let_through = lets_through(rule.pattern, sample)
        except (ValueError, AttributeError, TypeError) as error:
            cannot_say(Unread("events:DescribeRule", f"{error}, which is not understood"))
        if not is_let_through:
            return failure(f"its pattern leaves out {_sample_text(sample)}", APPLY)
    goal = known(facts.goal)
    if not goal or goal not in rule.targets:
        there = ", ".join(rule.targets) or "nobody"
        return failure(f"it sends to {there}, not to {goal or facts.plan.goal}", APPLY)
    if goal in rule.altered:
        return failure(f"{facts.plan.goal} gets another input than the event, which nobody can read", APPLY)
    return ok(f"it sends to {facts.plan.goal}")


def _sample_text(sample: Mapping[str, Any]) -> str:
    detail = sample["detail"]
    if "jobQueue" in detail:
        return f"jobs of {detail['jobQueue']} that end as {detail['status']}"
    return f"{sample['detail-type']} of s3://{detail['bucket']['name']}/{detail['object']['key']}"


def _permission(facts: RuleFacts) -> Finding | None:
    """Whether the function lets the rule call it."""
    rule, function = known(facts.settings), known(facts.function)
    if rule is None or function is None:
        return None
    context = {"aws:sourcearn": rule.arn}
    request = ServiceRequest("events.amazonaws.com", "lambda:InvokeFunction", function.arn, context)
    if _refused(function.policy, [request], "lambda:GetPolicy"):
        return failure(f"{facts.plan.goal} does not let the rule call it: its events get lost", APPLY)
    return ok(f"{facts.plan.goal} lets the rule call it")


def _dead_letters_of_rule(facts: RuleFacts) -> Finding | None:
    """Whether what the target does not take is kept."""
    rule, goal = known(facts.settings), known(facts.goal)
    if rule is None or goal not in rule.targets:
        return None
    queue = rule.dead_letters[goal]
    if queue is None:
        return warning("its target has no dead-letter queue: what it does not take within a day gets lost", APPLY)
    return ok(f"what its target does not take lies in {queue.rpartition(':')[2]}")


RULE_CHECKS = (
    Check("rule", _rule),
    Check("rule-permission", _permission),
    Check("rule-dead-letters", _dead_letters_of_rule),
)


def _function(facts: FunctionFacts) -> Finding:
    function = known(facts.settings)
    if function is None:
        return failure("there is no such function", APPLY)
    if function.state not in ("Active", "Inactive"):
        return failure(f"the function is {function.state}", "read why in Lambda's console: " + APPLY)
    if function.last_update == "Failed":
        return failure("its last update failed: it runs older code", APPLY)
    if function.reserved == 0:
        return failure("its reserved concurrency is 0: it never runs", "somebody stopped it: " + APPLY)
    return _variables(function.environment, facts.environment) or _calls(facts)


def _calls(facts: FunctionFacts) -> Finding:
    """How calls ended within a day. No figures: nobody called it."""
    calls, failed = known(facts.calls) or 0, known(facts.failed) or 0
    if failed and failed >= calls:
        return failure(f"all of its {calls:,.0f} calls within a day failed", "read its log")
    if failed:
        return warning(f"{failed:,.0f} of its {calls:,.0f} calls within a day failed", "read its log")
    return ok(f"none of its {calls:,.0f} calls within a day failed")


def _variables(there: Mapping[str, str], wanted: Mapping[str, str]) -> Finding | None:
    for name, value in wanted.items():
        if there.get(name, "").rstrip("/") != value.rstrip("/"):
            return failure(f"its {name} is {there.get(name) or 'not set'}, the policy says {value}", APPLY)
    return None


def _dead_letters_of_function(facts: FunctionFacts) -> Finding | None:
    """Whether a call is kept that failed each time. A queue keeps those of `backup`."""
    function = known(facts.settings)
    if function is None or facts.is_of_queue:
        return None
    if function.dead_letter_arn is None:
        return warning("it has no dead-letter queue: a call that fails three times gets lost", APPLY)
    return ok(f"calls that fail three times lie in {function.dead_letter_arn.rpartition(':')[2]}")


FUNCTION_CHECKS = (Check("function", _function), Check("function-dead-letters", _dead_letters_of_function))


def _concurrency(facts: ConcurrencyFacts) -> Finding:
    limit, reserved = known(facts.limit), known(facts.reserved)
    says = f"the account may run {limit:,} functions at once, these reserve {reserved:,}"
    if limit < reserved + UNRESERVED:
        why = f"and others need {UNRESERVED}" if reserved else "so events wait or fail when many come at once"
        return warning(f"{says}, {why}", "ask AWS for a higher limit of concurrent executions")
    return ok(says)


CONCURRENCY_CHECKS = (Check("lambda-quota", _concurrency),)


def _schedule(facts: ScheduleFacts) -> Finding:
    schedule = known(facts.settings)
    if schedule is None:
        return failure("there is no such schedule", APPLY)
    if schedule.is_enabled != facts.is_wanted:
        is_on, wanted = ("on", "off") if schedule.is_enabled else ("off", "on")
        return failure(f"the schedule is {is_on}, the policy wants it {wanted}", APPLY)
    if schedule.has_ended:
        return failure("the schedule has an end", APPLY)
    if schedule.begins_at is not None and schedule.begins_at > facts.now:
        return failure(
            f"the schedule does nothing before {datetime.fromtimestamp(schedule.begins_at, UTC):%Y-%m-%d}", APPLY
        )
    found, wanted = f"{schedule.expression} {schedule.time_zone}", f"{facts.expression} {facts.time_zone}"
    if found != wanted:
        return failure(f"it starts at {found}, the policy says {wanted}", APPLY)
    if schedule.target.rpartition(":")[2] != facts.function:
        return failure(f"it calls {schedule.target}, not {facts.function}", APPLY)
    if facts.pair is not None and not _is_night_of(schedule.payload, facts.pair):
        return failure(f"it asks for {schedule.payload[:80]!r}, not for a night of {facts.pair}", APPLY)
    return ok(f"it calls {facts.function}" if facts.is_wanted else "it is off, as the policy says")


def _is_night_of(payload: str, pair: str) -> bool:
    try:
        asked = json.loads(payload)
    except ValueError:
        return False
    return isinstance(asked, dict) and (asked.get("action"), asked.get("pair")) == ("nightly", pair)


def _policy_file(facts: PolicyFileFacts) -> Finding:
    """Whether what runs follows the policy that these lines are about."""
    if known(facts.there) != facts.given:
        return failure("the policy that functions and workers read is another one than yours", APPLY)
    return ok("functions and workers read the same policy")


POLICY_FILE_CHECKS = (Check("policy-file", _policy_file),)

SCHEDULE_CHECKS = (Check("schedule", _schedule),)
