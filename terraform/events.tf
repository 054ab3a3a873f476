# What happens in S3 and Batch, and whom it reaches.
#
#   source bucket ──────────────► queue ──► backup     directly, where the bucket is in our region and its
#                                  ▲                   notifications are ours
#   source bucket ─► EventBridge ──┘                   otherwise: another owner's notifications, or another region,
#                                                      whose rule forwards to our region's bus
#   restore completed, Batch job ended ─► EventBridge ─► follow
#   every night of every pair, every five minutes ─► Scheduler ─► submit, enqueue

locals {
  sources = { for bucket in distinct([for pair in local.pairs : pair.source.bucket]) : bucket => {
    region   = [for pair in local.pairs : pair.source.region if pair.source.bucket == bucket][0]
    is_ours  = anytrue([for pair in local.pairs : pair.source.notifications if pair.source.bucket == bucket])
    account  = [for pair in local.pairs : pair.source.account if pair.source.bucket == bucket][0]
    prefixes = distinct(flatten([for pair in local.pairs : pair.source.prefixes if pair.source.bucket == bucket]))
  } }

  # S3 refuses notification filters that overlap: of nested prefixes only the outermost.
  watched_prefixes = { for bucket, each in local.sources : bucket => [
    for prefix in each.prefixes : prefix if !anytrue([for other in each.prefixes : other != prefix && startswith(prefix, other)])
  ] }

  notifying = { for bucket, each in local.sources : bucket => each if each.is_ours }
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
    { for any in slice(["restored"], 0, length(local.thawing) > 0 ? 1 : 0) : any => {
      regions = distinct(values(local.own_thawing))
      to      = "follow"
      pattern = { source = ["aws.s3"], detail-type = ["Object Restore Completed"], detail = { bucket = { name = keys(local.thawing) } } }
    } },
    # An array's children are not followed one by one: ten thousand of them would be ten thousand calls.
    { for status in ["succeeded", "failed"] : "batch-${status}" => {
      regions = [local.region]
      to      = "follow"
      pattern = { source = ["aws.batch"], detail-type = ["Batch Job State Change"], detail = {
        jobQueue        = distinct(values(local.queue_arns))
        status          = [upper(status)]
        arrayProperties = { index = [{ exists = false }] }
      } }
    } },
    # A job that cannot be placed stands before all others of its queue. Batch says so once, and people have to hear it.
    # https://docs.aws.amazon.com/batch/latest/userguide/batch-job-queue-blocked-events.html
    { for any in slice(["queue-blocked"], 0, local.makes_queue ? 1 : 0) : any => {
      regions = [local.region]
      to      = "topic"
      pattern = { source = ["aws.batch"], detail-type = ["Batch Job Queue Blocked"], detail = { jobQueue = distinct(values(local.queue_arns)) } }
    } },
    # Alarms on what is in other regions are there; the topic is in ours.
    { for any in slice(["far-alarms"], 0, length(local.alarm_regions) > 0 ? 1 : 0) : any => {
      regions = local.alarm_regions
      to      = "topic"
      pattern = merge(local.alarm_pattern, { account = [local.account], region = tolist(local.alarm_regions) })
    } },
    # The same of other accounts, whose rules forward to our bus.
    { for any in slice(["others-alarms"], 0, length(local.foreign_watched) > 0 ? 1 : 0) : any => {
      regions = [local.region]
      to      = "topic"
      pattern = merge(local.alarm_pattern, { account = distinct(values(local.foreign_watched)[*].account) })
    } },
  )

  # at most 64 characters: a long bucket's name is cut, and told apart by a hash
  rule_names = { for key in keys(local.event_patterns) : key =>
    "${local.name}-${length(key) <= 38 ? key : "${substr(key, 0, 31)}-${substr(md5(key), 0, 6)}"}"
  }

  targets = {
    queue  = aws_sqs_queue.this["objects"].arn
    follow = aws_lambda_function.this["follow"].arn
    topic  = local.topic_arn
  }

  forwarded = merge([for name, each in local.event_patterns : {
    for region in each.regions : "${name}-${region}" => { name = name, region = region, pattern = each.pattern } if region != local.region
  }]...)
  home_bus = "arn:${local.partition}:events:${local.region}:${local.account}:event-bus/default"
}

# One configuration per bucket, whichever pairs share it: a second one would silently replace the first.
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
  queues = {
    objects     = { visibility_seconds = 6 * local.functions.backup.timeout_seconds, dead = "objects-dead" }
    undelivered = { visibility_seconds = 30, dead = null }
  }
  dead_queues = { for name, each in local.queues : each.dead => name if each.dead != null }
}

# Events that no attempt could handle: `sealift events redrive` returns them.
resource "aws_sqs_queue" "dead" {
  for_each = local.dead_queues

  region                    = local.region
  name                      = "${local.name}-${each.key}"
  message_retention_seconds = 1209600
  kms_master_key_id         = local.key_arns[local.region]
  tags                      = local.tags
}

resource "aws_sqs_queue" "this" {
  for_each = local.queues

  region                     = local.region
  name                       = "${local.name}-${each.key}"
  visibility_timeout_seconds = each.value.visibility_seconds
  message_retention_seconds  = each.value.dead == null ? 1209600 : 604800 # a dead letter keeps its age: its queue has to hold it longer
  receive_wait_time_seconds  = 20
  kms_master_key_id          = local.key_arns[local.region]
  redrive_policy = each.value.dead == null ? null : jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead[each.value.dead].arn
    maxReceiveCount     = 8 # about two hours: scheduler/redelivery.py has the pauses
  })
  tags = local.tags
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  for_each = local.dead_queues

  region    = local.region
  queue_url = aws_sqs_queue.dead[each.key].id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.this[each.value].arn]
  })
}

resource "aws_sqs_queue_policy" "this" {
  for_each = local.queues

  region    = local.region
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
      [for arns in [[for name, rule in aws_cloudwatch_event_rule.home : rule.arn if local.event_patterns[name].to == "queue" || each.key == "undelivered"]] : {
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

resource "aws_cloudwatch_event_rule" "home" {
  for_each = local.event_patterns

  region        = local.region
  name          = local.rule_names[each.key]
  description   = "To the ${each.value.to}"
  event_pattern = jsonencode(each.value.pattern)
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "home" {
  for_each = local.event_patterns

  region    = local.region
  rule      = aws_cloudwatch_event_rule.home[each.key].name
  target_id = each.value.to
  arn       = local.targets[each.value.to]

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.this["undelivered"].arn
  }
}

resource "aws_lambda_permission" "rule" {
  for_each = { for name, each in local.event_patterns : name => each.to if each.to == "follow" }

  region        = local.region
  statement_id  = "rule-${each.key}"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this[each.value].function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.home[each.key].arn
}

# In the other regions: the same pattern, to our region's default bus, where the rule above has it.
resource "aws_cloudwatch_event_rule" "forward" {
  for_each = local.forwarded

  region        = each.value.region
  name          = local.rule_names[each.value.name]
  description   = "To ${local.region}"
  event_pattern = jsonencode(each.value.pattern)
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "forward" {
  for_each = local.forwarded

  region    = each.value.region
  rule      = aws_cloudwatch_event_rule.forward[each.key].name
  target_id = "home"
  arn       = local.home_bus
  role_arn  = aws_iam_role.events.arn

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.far[each.value.region].arn
  }
}

# What could not be forwarded: a rule's dead-letter queue has to be in the rule's region.
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
resource "aws_sqs_queue" "far" {
  for_each = local.alarm_regions

  region                    = each.key
  name                      = "${local.name}-undelivered"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true # a region may have no key of ours
  tags                      = local.tags
}

resource "aws_sqs_queue_policy" "far" {
  for_each = local.alarm_regions

  region    = each.key
  queue_url = aws_sqs_queue.far[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"]
        Resource  = aws_sqs_queue.far[each.key].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "Rules"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.far[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = [for name, rule in aws_cloudwatch_event_rule.forward : rule.arn if local.forwarded[name].region == each.key] } }
      },
    ]
  })
}

resource "aws_scheduler_schedule_group" "this" {
  region = local.region
  name   = local.name
  tags   = local.tags
}

# Each pair's night, in its own time zone: also when clocks change there.
resource "aws_scheduler_schedule" "nightly" {
  for_each = local.pairs

  region                       = local.region
  name                         = "night-${each.key}"
  group_name                   = aws_scheduler_schedule_group.this.name
  description                  = "Reconcile, repair, verify, report: ${each.key}"
  state                        = each.value.nightly.enabled ? "ENABLED" : "DISABLED"
  schedule_expression          = "cron(${tonumber(substr(each.value.nightly.hour, 3, 2))} ${tonumber(substr(each.value.nightly.hour, 0, 2))} * * ? *)"
  schedule_expression_timezone = each.value.nightly.time_zone
  kms_key_arn                  = local.key_arns[local.region]

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 15
  }

  target {
    arn      = aws_lambda_function.this["submit"].arn
    role_arn = aws_iam_role.scheduler.arn
    # Scheduler delivers at least once: the scheduled time, the same in each delivery, is what makes a night one night.
    # Not jsonencode alone: it would escape the angle brackets that Scheduler looks for.
    input = replace(replace(jsonencode({ action = "nightly", pair = each.key, scheduled_at = "<aws.scheduler.scheduled-time>" }), "\\u003c", "<"), "\\u003e", ">")

    retry_policy {
      maximum_event_age_in_seconds = 7200
      maximum_retry_attempts       = 20
    }

    dead_letter_config {
      arn = aws_sqs_queue.this["undelivered"].arn
    }
  }
}

# Whether a backlog is big or old enough is the function's question; this only asks it.
resource "aws_scheduler_schedule" "backlog" {
  region                       = local.region
  name                         = "backlog"
  group_name                   = aws_scheduler_schedule_group.this.name
  description                  = "Is a backlog big or old enough to become a run?"
  schedule_expression          = "rate(5 minutes)"
  schedule_expression_timezone = "UTC"
  kms_key_arn                  = local.key_arns[local.region]

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this["enqueue"].arn
    role_arn = aws_iam_role.scheduler.arn
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
