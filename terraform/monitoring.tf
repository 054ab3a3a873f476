# Who hears of it, and when. What ends says so by itself, well or not: the function `follow` sends a message for each run, night
# and comparison. Alarms are for what says nothing: events and calls that wait, fail again and again, or did not come.

locals {
  makes_topic = local.alarms.topic == null
  topic_arn   = local.makes_topic ? aws_sns_topic.alarms["this"].arn : local.alarms.topic

  # S3 publishes latency in the replica's region, and failed operations in the hot bucket's, by rule.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html
  alarms_of_rules = merge([for rule in local.replication_rules : { for name, each in {
    "${rule.id}-replication" = {
      metric = "ReplicationLatency", statistic = "Maximum", periods = 3, region = rule.replica.region
      above  = rule.replica.replication_time_control ? 900 : 86400
      means  = "Replication from ${rule.hot.bucket} to ${rule.replica.bucket} is more than ${rule.replica.replication_time_control ? "15 minutes" : "a day"} behind."
    }
    "${rule.id}-replication-failed" = {
      metric = "OperationsFailedReplication", statistic = "Sum", periods = 1, region = rule.hot.region
      above  = 0
      means  = "S3 could not replicate from ${rule.hot.bucket} to ${rule.replica.bucket}, and does not try again: mend the cause, then copy these objects by S3 Batch Replication."
    }
    } : name => merge(each, {
      namespace  = "AWS/S3", account = rule.hot.account, pair = rule.pair
      dimensions = { SourceBucket = rule.hot.bucket, DestinationBucket = rule.replica.bucket, RuleId = rule.id }
    })
  }]...)
  replication_alarms = { for name, each in local.alarms_of_rules : name => each if each.account == local.owner && contains(keys(local.twinned), each.pair) }

  # Where rules forward from, and where alarms are that have to be heard here.
  alarm_regions = toset([for region in concat(
    [for each in values(local.bridged) : each.region if each.account == local.owner], values(local.own_thawing), values(local.replication_alarms)[*].region,
  ) : region if region != local.region])

  # Metrics of one name, one number, one sentence. Two systems of an account may have a pair of one name.
  alarms_of = merge(
    # A function that fails, or may not run, leaves its call in one of these, but for `enqueue`, which the backlog's age shows.
    {
      objects-dead-not-empty = {
        namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = aws_sqs_queue.dead.name }
        above     = 0, periods = 1
        means     = "Events could not be handled in eight attempts: read the function's log, mend the cause, then `sealift events redrive`."
      }
      oldest-event = {
        namespace = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", dimensions = { QueueName = aws_sqs_queue.this["objects"].name }
        above     = local.alarms.oldest_event_minutes * 60, period_seconds = 60, periods = 3
        means     = "An object has waited longer than the recovery point that the policy promises: does the function run, may it run often enough?"
      }
    },
    # The rule that carries the alarm of another region over may be the one that fails: look there as well.
    { for region, queue in local.undelivered : "${queue}-not-empty" => {
      namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = aws_sqs_queue.this[queue].name }
      above     = 0, periods = 1, region = region, name = "undelivered-not-empty"
      means     = "A rule, a schedule or a call of ${region} could not be delivered: read the messages of the queue ${local.name}-undelivered there, then call the function by hand."
    } },
    # SQS leaves messages out of that age that were received three times and not deleted. The function knows how old these are.
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    { for pair in keys(local.pairs) : "${pair}-unhandled" => {
      namespace = "Sealift", metric = "OldestUnhandledEventAge", dimensions = { System = local.name, Pair = pair }
      above     = local.alarms.oldest_event_minutes * 60, periods = 1
      means     = "An event of ${pair} fails again and again, and is older than the recovery point that the policy promises: the journal says why."
    } },
    # Half an hour after a backlog is due it should be a run. The metric comes every five minutes: none at all is an alarm, too.
    { for name, pair in local.pairs : "${name}-backlog-age" => {
      namespace = "Sealift", metric = "BacklogAge", dimensions = { System = local.name, Pair = name }
      above     = pair.thresholds.backlog_age + 1800, periods = 6, missing = "breaching"
      means     = "The backlog of ${name} is due and no run has taken it, or nobody measures it: read the log of the function enqueue."
    } },
    # Silence is the alarm here: a night that did not succeed sends no metric.
    { for name, pair in local.pairs : "${name}-no-night" => {
      namespace = "Sealift", metric = "NightSucceeded", dimensions = { System = local.name, Pair = name }
      below     = 1, period_seconds = 3600, periods = local.alarms.night_hours, missing = "breaching"
      means     = "No night of ${name} has succeeded for ${local.alarms.night_hours} hours: is its schedule on, does `sealift runs list` show one?"
    } if pair.nightly.enabled },
    local.replication_alarms,
  )
}

resource "aws_sns_topic" "alarms" {
  for_each = toset([for name in ["this"] : name if local.makes_topic])

  region            = local.region
  name              = "${local.name}-alarms"
  display_name      = "Sealift ${local.name}"
  kms_master_key_id = local.key_arns[local.region]
  tags              = local.tags
}

resource "aws_sns_topic_policy" "alarms" {
  for_each = aws_sns_topic.alarms

  region = local.region
  arn    = each.value.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "AlarmsAndBudgets"
        Effect    = "Allow"
        Principal = { Service = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"] }
        Action    = "sns:Publish"
        Resource  = each.value.arn
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      }],
      # EventBridge takes no conditions on an encrypted topic. A rule of another account has to bring a role of its own,
      # which this statement does not allow.
      # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-cross-account.html
      [for rules in [[for pattern in values(local.event_patterns) : pattern if pattern.to == "topic"]] : {
        Sid       = "Rules"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = each.value.arn
      } if length(rules) > 0],
    )
  })
}

resource "aws_sns_topic_subscription" "email" {
  for_each = local.makes_topic ? toset(local.alarms.emails) : []

  region    = local.region
  topic_arn = local.topic_arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms_of

  region              = try(each.value.region, local.region)
  alarm_name          = "${local.name}-${try(each.value.name, each.key)}"
  alarm_description   = each.value.means
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = try(each.value.statistic, "Maximum")
  period              = try(each.value.period_seconds, 300)
  evaluation_periods  = each.value.periods
  comparison_operator = can(each.value.below) ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = try(each.value.below, each.value.above)
  treat_missing_data  = try(each.value.missing, "notBreaching")
  # an alarm reaches a topic of its own region only; from others a rule carries it over, events.tf
  alarm_actions = try(each.value.region, local.region) == local.region ? [local.topic_arn] : []
  ok_actions    = try(each.value.region, local.region) == local.region ? [local.topic_arn] : []
  tags          = local.tags
}

# Costs of what bears our tag: activate `System` as a cost allocation tag once.
resource "aws_budgets_budget" "month" {
  for_each = toset([for name in ["month"] : name if local.alarms.monthly_budget != null])

  name         = "${local.name}-month"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(trimprefix(tostring(local.alarms.monthly_budget), "$"))
  limit_unit   = "USD"
  tags         = local.tags

  cost_filter {
    name   = "TagKeyValue"
    values = [format("user:System$%s", local.name)]
  }

  dynamic "notification" {
    for_each = { FORECASTED = 100, ACTUAL = 80 }

    content {
      notification_type         = notification.key
      comparison_operator       = "GREATER_THAN"
      threshold                 = notification.value
      threshold_type            = "PERCENTAGE"
      subscriber_sns_topic_arns = [local.topic_arn]
    }
  }
}
