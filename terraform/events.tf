# What happens in S3 and Batch, and whom it reaches.
#
#   source bucket ─► EventBridge ─► queue ──► backup   the bucket's owner turns EventBridge on; from another region a rule
#                                     ▲                forwards to our region's bus
#   source bucket ────────────────────┘                directly, where the policy says `notifications: replace`
#   restore completed, Batch job ended ─► EventBridge ─► follow
#   every night and drill of every pair, every five minutes ─► Scheduler ─► submit, enqueue

locals {
  sources = { for bucket in distinct([for pair in local.pairs : pair.source.bucket]) : bucket => {
    region   = [for pair in local.pairs : pair.source.region if pair.source.bucket == bucket][0]
    account  = [for pair in local.pairs : pair.source.account if pair.source.bucket == bucket][0]
    prefixes = distinct(flatten([for pair in local.pairs : pair.source.prefixes if pair.source.bucket == bucket]))
    is_taken = anytrue([for pair in local.pairs : pair.source.notifications == "replace" if pair.source.bucket == bucket])
  } }

  # S3 refuses notification filters that overlap: of nested prefixes only the outermost.
  watched_prefixes = { for bucket, each in local.sources : bucket => [
    for prefix in each.prefixes : prefix if !anytrue([for other in each.prefixes : other != prefix && startswith(prefix, other)])
  ] }

  notifying = { for bucket, each in local.sources : bucket => each if each.is_taken }
  direct    = { for bucket, each in local.notifying : bucket => each if each.region == local.region }
  bridged   = { for bucket, each in local.sources : bucket => each if !contains(keys(local.direct), bucket) }

  thawing     = { for bucket in distinct([for pair in local.archives : pair.archive.bucket]) : bucket => local.written[bucket] }
  own_thawing = { for bucket, each in local.thawing : bucket => each.region if each.account == local.owner }

  # EventBridge's filter on a bucket, and on prefixes where not all keys count.
  object_filters = { for bucket in keys(local.sources) : bucket => merge(
    { bucket = { name = [bucket] } },
    { for field in ["object"] : field => { key = [for prefix in local.watched_prefixes[bucket] : { prefix = prefix }] }
    if !contains(local.watched_prefixes[bucket], "") },
  ) }

  object_patterns = { for bucket, filter in local.object_filters : bucket =>
    { source = ["aws.s3"], detail-type = ["Object Created", "Object Deleted", "Object Restore Completed"], detail = filter }
  }

  alarm_pattern = { source = ["aws.cloudwatch"], detail-type = ["CloudWatch Alarm State Change"], detail = {
    alarmName = [{ prefix = "${local.name}-" }]
    state     = { value = ["ALARM"] }
  } }

  event_patterns = merge(
    { for bucket, each in local.bridged : "objects-${bucket}" => {
      regions = [each.account == local.owner ? each.region : local.region] # another account's rule forwards to our bus
      to      = "queue"
      pattern = local.object_patterns[bucket]
    } },
    { for any in ["restored"] : any => {
      regions = distinct(values(local.own_thawing))
      to      = "follow"
      pattern = { source = ["aws.s3"], detail-type = ["Object Restore Completed"], detail = { bucket = { name = keys(local.thawing) } } }
    } if length(local.thawing) > 0 },
    # An array's children are not followed one by one: ten thousand of them would be ten thousand calls.
    { batch-ended = {
      regions = [local.region]
      to      = "follow"
      pattern = { source = ["aws.batch"], detail-type = ["Batch Job State Change"], detail = {
        jobQueue        = values(local.queue_arns)
        status          = ["SUCCEEDED", "FAILED"]
        arrayProperties = { index = [{ exists = false }] }
      } }
    } },
    # Alarms on what is in other regions are there; the topic is in ours.
    { for any in ["far-alarms"] : any => {
      regions = local.alarm_regions
      to      = "topic"
      pattern = merge(local.alarm_pattern, { account = [local.account], region = tolist(local.alarm_regions) })
    } if length(local.alarm_regions) > 0 },
    # The same of other accounts, whose rules forward to our bus.
    { for any in ["others-alarms"] : any => {
      regions = [local.region]
      to      = "topic"
      pattern = merge(local.alarm_pattern, { account = distinct(values(local.foreign_watched)[*].account) })
    } if length(local.foreign_watched) > 0 },
  )

  # at most 64 characters: a long bucket's name is cut, and told apart by a hash
  rule_names = { for key in keys(local.event_patterns) : key =>
    "${local.name}-${length(key) <= 38 ? key : "${substr(key, 0, 31)}-${substr(md5(key), 0, 6)}"}"
  }

  home_bus = "arn:aws:events:${local.region}:${local.account}:event-bus/default"
  targets = {
    queue  = aws_sqs_queue.this["objects"].arn
    follow = aws_lambda_function.this["follow"].arn
    topic  = local.topic_arn
    bus    = local.home_bus
  }

  # In other regions a rule has the same pattern, and forwards to our region's default bus, where the home rule has it.
  rules = merge(
    { for name, each in local.event_patterns : name => { name = name, region = local.region, to = each.to, pattern = each.pattern } },
    [for name, each in local.event_patterns : {
      for region in each.regions : "${name}-${region}" => { name = name, region = region, to = "bus", pattern = each.pattern } if region != local.region
    }]...
  )
  forwards = anytrue([for each in values(local.rules) : each.to == "bus"])
}

# One configuration per bucket, whichever pairs share it: a second one would silently replace the first. It replaces what the
# bucket notifies now, which a plan does not show: `sealift doctor --before` does.
resource "aws_s3_bucket_notification" "source" {
  for_each = local.notifying

  bucket      = each.key
  region      = each.value.region
  eventbridge = each.value.region != local.region # S3 reaches a queue in its own region only

  dynamic "queue" {
    for_each = each.value.region == local.region ? local.watched_prefixes[each.key] : []

    content {
      queue_arn = aws_sqs_queue.this["objects"].arn
      events    = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed"]
      # As S3 writes keys in its events: of `dt=2026/` as it is it would notify nobody, without a word.
      # https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
      filter_prefix = replace(urlencode(queue.value), "%2F", "/")
    }
  }

  depends_on = [aws_sqs_queue_policy.this]
}

# Buckets of ours whose events somebody waits for; a hot bucket's would be paid for and thrown away.
resource "aws_s3_bucket_notification" "own" {
  for_each = local.own_thawing

  bucket      = aws_s3_bucket.this[each.key].id
  region      = each.value
  eventbridge = true
}

locals {
  # Visibility: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html asks for six times the function's timeout.
  # What a rule could not deliver lies in its own region: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
  queues = merge(
    {
      objects     = { name = "objects", region = local.region, visibility_seconds = 6 * local.functions.backup.timeout_seconds, days = 7 }
      undelivered = { name = "undelivered", region = local.region, visibility_seconds = 30, days = 14 }
    },
    { for region in local.alarm_regions : "undelivered-${region}" => { name = "undelivered", region = region, visibility_seconds = 30, days = 14 } },
  )
  undelivered = { for name, each in local.queues : each.region => name if each.name == "undelivered" }

  # queue → the rules that send to it
  senders = { for queue, each in local.queues : queue => [for name, rule in local.rules : aws_cloudwatch_event_rule.this[name].arn
  if queue == "objects" ? rule.to == "queue" : rule.region == each.region] }
}

# Events that no attempt could handle: `sealift events redrive` returns them. A dead letter keeps its age: this queue has to
# hold it longer than the other.
resource "aws_sqs_queue" "dead" {
  region                    = local.region
  name                      = "${local.name}-objects-dead"
  message_retention_seconds = 14 * 86400
  kms_master_key_id         = local.key_arns[local.region]
  tags                      = local.tags
}

resource "aws_sqs_queue" "this" {
  for_each = local.queues

  region                     = each.value.region
  name                       = "${local.name}-${each.value.name}"
  visibility_timeout_seconds = each.value.visibility_seconds
  message_retention_seconds  = each.value.days * 86400
  kms_master_key_id          = each.value.region == local.region ? local.key_arns[local.region] : null
  sqs_managed_sse_enabled    = each.value.region == local.region ? null : true # a region may have no key of ours
  redrive_policy = each.key == "objects" ? jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = 8 # about two hours: scheduler/redelivery.py has the pauses
  }) : null
  tags = local.tags
}

resource "aws_sqs_queue_policy" "this" {
  for_each = local.queues

  region    = each.value.region
  queue_url = aws_sqs_queue.this[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"]
        Resource  = aws_sqs_queue.this[each.key].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for arns in [[for bucket in keys(local.direct) : local.bucket_arns[bucket]]] : {
        Sid       = "SourceBuckets"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.this[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = arns }, StringEquals = { "aws:SourceAccount" = local.account } }
      } if each.key == "objects" && length(arns) > 0],
      [for arns in [local.senders[each.key]] : {
        Sid       = "Rules"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.this[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = arns } }
      } if length(arns) > 0],
    )
  })
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.rules

  region        = each.value.region
  name          = local.rule_names[each.value.name]
  description   = "To the ${each.value.to}"
  event_pattern = jsonencode(each.value.pattern)
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.rules

  region    = each.value.region
  rule      = aws_cloudwatch_event_rule.this[each.key].name
  target_id = each.value.to
  arn       = local.targets[each.value.to]
  role_arn  = each.value.to == "bus" ? aws_iam_role.this["events"].arn : null

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.this[local.undelivered[each.value.region]].arn
  }
}

resource "aws_lambda_permission" "rule" {
  for_each = { for name, each in local.rules : name => each.to if each.to == "follow" }

  region        = local.region
  statement_id  = "rule-${each.key}"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this[each.value].function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.this[each.key].arn
}

resource "aws_scheduler_schedule_group" "this" {
  region = local.region
  name   = local.name
  tags   = local.tags
}

locals {
  # Each pair's night, in its own time zone: also when clocks change there. Its drills, the first as soon as the schedule is made.
  # In hours, since a rate of one day and of several have other units.
  # https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#rate-based
  schedules = merge(
    { for name, pair in local.pairs : name => {
      name    = "night-${name}"
      action  = "nightly", pair = name, does = "Reconcile, repair, verify, report", is_enabled = pair.nightly.enabled
      when    = "cron(${tonumber(substr(pair.nightly.hour, 3, 2))} ${tonumber(substr(pair.nightly.hour, 0, 2))} * * ? *)"
      in_zone = pair.nightly.time_zone
    } },
    [for drill in local.drill : { for name in keys(local.pairs) : "${name}/drill" => {
      name    = "drill-${name}"
      action  = "drill", pair = name, does = "Restore a sample and compare it", is_enabled = true
      when    = "rate(${24 * drill.days} hours)"
      in_zone = "UTC"
    } }]...
  )
}

moved {
  from = aws_scheduler_schedule.nightly
  to   = aws_scheduler_schedule.pair
}

resource "aws_scheduler_schedule" "pair" {
  for_each = local.schedules

  region                       = local.region
  name                         = each.value.name
  group_name                   = aws_scheduler_schedule_group.this.name
  description                  = "${each.value.does}: ${each.value.pair}"
  state                        = each.value.is_enabled ? "ENABLED" : "DISABLED"
  schedule_expression          = each.value.when
  schedule_expression_timezone = each.value.in_zone
  kms_key_arn                  = local.key_arns[local.region]

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 15
  }

  target {
    arn      = aws_lambda_function.this["submit"].arn
    role_arn = aws_iam_role.this["scheduler"].arn
    # Scheduler delivers at least once: the scheduled time, the same in each delivery, is what makes a night one night, and a drill one drill.
    # Not jsonencode alone: it would escape the angle brackets that Scheduler looks for.
    input = replace(replace(jsonencode({ action = each.value.action, pair = each.value.pair, scheduled_at = "<aws.scheduler.scheduled-time>" }), "\\u003c", "<"), "\\u003e", ">")

    retry_policy {
      maximum_event_age_in_seconds = 7200
      maximum_retry_attempts       = 20
    }

    dead_letter_config {
      arn = aws_sqs_queue.this["undelivered"].arn
    }
  }

  depends_on = [aws_batch_job_definition.this, aws_batch_job_queue.this] # a rate begins at once
}

# Whether a backlog is big or old enough is the function's question; this only asks it.
resource "aws_scheduler_schedule" "backlog" {
  region              = local.region
  name                = "backlog"
  group_name          = aws_scheduler_schedule_group.this.name
  description         = "Is a backlog big or old enough to become a run?"
  schedule_expression = "rate(5 minutes)"
  kms_key_arn         = local.key_arns[local.region]

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this["enqueue"].arn
    role_arn = aws_iam_role.this["scheduler"].arn
    input    = replace(replace(jsonencode({ action = "backlog", scheduled_at = "<aws.scheduler.scheduled-time>" }), "\\u003c", "<"), "\\u003e", ">")

    retry_policy {
      maximum_event_age_in_seconds = 300
      maximum_retry_attempts       = 2
    }

    dead_letter_config {
      arn = aws_sqs_queue.this["undelivered"].arn
    }
  }
}
