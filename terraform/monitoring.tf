# Who hears of it, and when. What a healthy day looks like is on the dashboard.

locals {
  makes_topic = local.alarms.topic == null
  topic_arn   = local.makes_topic ? aws_sns_topic.alarms["this"].arn : local.alarms.topic

  # S3 publishes latency in the replica's region, and failed operations in the hot bucket's, by rule.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html
  alarms_of_rules = merge([for rule in local.replication_rules : {
    "${rule.id}-replication" = {
      metric = "ReplicationLatency", statistic = "Maximum", periods = 3, region = rule.replica.region, hot = rule.hot.bucket, rule = rule.id, twin = rule.replica.bucket
      pair   = rule.pair, account = rule.hot.account
      above  = rule.replica.replication_time_control ? 900 : 86400
      means  = "Replication from ${rule.hot.bucket} to ${rule.replica.bucket} is more than ${rule.replica.replication_time_control ? "15 minutes" : "a day"} behind."
    }
    "${rule.id}-replication-failed" = {
      metric = "OperationsFailedReplication", statistic = "Sum", periods = 1, region = rule.hot.region, hot = rule.hot.bucket, rule = rule.id, twin = rule.replica.bucket
      pair   = rule.pair, account = rule.hot.account
      above  = 0
      means  = "S3 could not replicate from ${rule.hot.bucket} to ${rule.replica.bucket}, and does not try again: mend the cause, then copy these objects by S3 Batch Replication."
    }
  }]...)
  replication_alarms = { for name, each in local.alarms_of_rules : name => each if each.account == local.owner && contains(keys(local.twinned), each.pair) }

  # Where rules forward from, and where alarms are that have to be heard here.
  alarm_regions = toset([for region in concat(
    [for each in values(local.bridged) : each.region if each.account == local.owner], values(local.own_thawing), values(local.replication_alarms)[*].region,
  ) : region if region != local.region])

  # Two systems of an account may have a pair of one name.
  of_pair = { for pair in keys(local.pairs) : pair => { System = local.name, Pair = pair } }

  # Metrics of one name, one number, one sentence.
  alarms_of = merge(
    { for queue in concat(keys(local.dead_queues), ["undelivered"]) : "${queue}-not-empty" => {
      namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum", dimensions = { QueueName = "${local.name}-${queue}" }
      above     = 0, period_seconds = 300, periods = 1
      means     = queue == "undelivered" ? "A rule, a schedule or a call could not be delivered: read the queue's messages, then call the function by hand." : "Events could not be handled in eight attempts: read the function's log, mend the cause, then `sealift events redrive`."
    } },
    { "oldest-event" = {
      namespace = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", statistic = "Maximum", dimensions = { QueueName = "${local.name}-objects" }
      above     = local.alarms.oldest_event_minutes * 60, period_seconds = 60, periods = 3
      means     = "An object has waited longer than the recovery point that the policy promises."
    } },
    # SQS leaves messages out of that age that were received three times and not deleted. The function knows how old these are.
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    { for pair in keys(local.pairs) : "${pair}-unhandled" => {
      namespace = "Sealift", metric = "OldestUnhandledEventAge", statistic = "Maximum", dimensions = local.of_pair[pair]
      above     = local.alarms.oldest_event_minutes * 60, period_seconds = 300, periods = 1
      means     = "An event of ${pair} fails again and again, and is older than the recovery point that the policy promises: the journal says why."
    } },
    # Half an hour after a backlog is due it should be a run. The metric comes every five minutes: none at all is an alarm, too.
    { for name, pair in local.pairs : "${name}-backlog-age" => {
      namespace = "Sealift", metric = "BacklogAge", statistic = "Maximum", dimensions = local.of_pair[name]
      above     = pair.backlog_seconds + 1800, period_seconds = 300, periods = 6, missing = "breaching"
      means     = "The backlog of ${name} is due and no run has taken it, or nobody measures it: read the log of the function enqueue."
    } },
    { for function in keys(local.functions) : "${function}-throttled" => {
      namespace = "AWS/Lambda", metric = "Throttles", statistic = "Sum", dimensions = { FunctionName = "${local.name}-${function}" }
      above     = function == "backup" ? 100 : 0, period_seconds = 300, periods = 3
      means     = "The function is called more often than it may run: raise its concurrency, or the account's limit."
    } },
    { for function in keys(local.functions) : "${function}-errors" => {
      namespace = "AWS/Lambda", metric = "Errors", statistic = "Sum", dimensions = { FunctionName = "${local.name}-${function}" }
      above     = 0, period_seconds = 300, periods = 3
      means     = "The function fails again and again: read its log."
    } },
    { "run-failed" = {
      namespace = "AWS/Events", metric = "TriggeredRules", statistic = "Sum", dimensions = { RuleName = "${local.name}-batch-failed" }
      above     = 0, period_seconds = 300, periods = 1
      means     = "A job failed, or ended with findings (exit code 3): `sealift runs list`, then `sealift runs show RUN` says why."
    } },
    { for pair in keys(local.pairs) : "${pair}-findings" => {
      namespace = "Sealift", metric = "Findings", statistic = "Maximum", dimensions = local.of_pair[pair]
      above     = 0, period_seconds = 300, periods = 1
      means     = "Copies of ${pair} are not as they should be: the run's report lists each."
    } },
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

  region              = local.region
  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.means
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period_seconds
  evaluation_periods  = each.value.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  treat_missing_data  = try(each.value.missing, "notBreaching")
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags
}

# Silence is the alarm here: no metric at all counts as a night that failed.
resource "aws_cloudwatch_metric_alarm" "night" {
  for_each = { for name, pair in local.pairs : name => pair if pair.nightly.enabled }

  region              = local.region
  alarm_name          = "${local.name}-${each.key}-no-night"
  alarm_description   = "No night of ${each.key} has succeeded for ${local.alarms.night_hours} hours: is its schedule on, does `sealift runs list` show one?"
  namespace           = "Sealift"
  metric_name         = "NightSucceeded"
  dimensions          = local.of_pair[each.key]
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = local.alarms.night_hours
  datapoints_to_alarm = local.alarms.night_hours
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "replication" {
  for_each = local.replication_alarms

  region              = each.value.region
  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.means
  namespace           = "AWS/S3"
  metric_name         = each.value.metric
  dimensions          = { SourceBucket = each.value.hot, DestinationBucket = each.value.twin, RuleId = each.value.rule }
  statistic           = each.value.statistic
  period              = 300
  evaluation_periods  = each.value.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  treat_missing_data  = "notBreaching"
  # an alarm reaches a topic of its own region only; from others a rule carries it over, events.tf
  alarm_actions = each.value.region == local.region ? [local.topic_arn] : []
  tags          = local.tags
}

# What a rule of another region could not forward. The rule that carries this alarm over may be the one that fails: look
# there as well when events of that region are missing.
resource "aws_cloudwatch_metric_alarm" "undelivered" {
  for_each = local.alarm_regions

  region              = each.key
  alarm_name          = "${local.name}-undelivered-not-empty"
  alarm_description   = "A rule of ${each.key} could not forward an event to ${local.region}: read the messages of the queue ${local.name}-undelivered there."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.far[each.key].name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  tags                = local.tags
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

locals {
  # title, width of 24, metrics as CloudWatch writes them; the first of each row begins a line
  panels = [
    { title = "Recovery point: age of the oldest unhandled event", stat = "Maximum", unit = "s", metrics = [
    ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", "${local.name}-objects"]] },
    { title = "Recovery point in fact: age of the oldest event when its object was copied", stat = "Maximum", unit = "s", metrics = [
    for pair in keys(local.pairs) : ["Sealift", "OldestEventAge", "System", local.name, "Pair", pair]] },
    { title = "Objects backed up by events", stat = "Sum", unit = "objects", metrics = [
    for pair in keys(local.pairs) : ["Sealift", "BackedUp", "System", local.name, "Pair", pair]] },
    { title = "Backlog: rows that wait for a run", stat = "Maximum", unit = "rows", metrics = [
    for pair in keys(local.pairs) : ["Sealift", "BacklogRows", "System", local.name, "Pair", pair]] },
    { title = "Waiting and dead events", stat = "Maximum", unit = "events", metrics = concat(
      [for queue in ["objects"] : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "${local.name}-${queue}"]],
    [for queue in keys(local.dead_queues) : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "${local.name}-${queue}"]]) },
    { title = "Throughput: objects by job", stat = "Sum", unit = "objects", metrics = [
    for job in ["replicate", "verify"] : ["Sealift", "Objects", "System", local.name, "Job", job]] },
    { title = "Throughput: bytes by job", stat = "Sum", unit = "bytes", metrics = [
    for job in ["replicate", "verify"] : ["Sealift", "Bytes", "System", local.name, "Job", job]] },
    { title = "Outcomes: rows that did not end well", stat = "Sum", unit = "rows", metrics = [
    for job in ["replicate", "verify"] : ["Sealift", "Errors", "System", local.name, "Job", job]] },
    { title = "Findings by pair", stat = "Maximum", unit = "findings", metrics = [
    for pair in keys(local.pairs) : ["Sealift", "Findings", "System", local.name, "Pair", pair]] },
    { title = "Nights that succeeded", stat = "Sum", unit = "nights", metrics = [
    for pair in keys(local.pairs) : ["Sealift", "NightSucceeded", "System", local.name, "Pair", pair]] },
    { title = "Verification: share of the slice proven", stat = "Maximum", unit = "%", metrics = [
    for pair in keys(local.pairs) : ["Sealift", "VerifiedShare", "System", local.name, "Pair", pair]] },
    { title = "Functions: errors and throttles", stat = "Sum", unit = "calls", metrics = flatten([
    for function in keys(local.functions) : [for metric in ["Errors", "Throttles"] : { row = ["AWS/Lambda", metric, "FunctionName", "${local.name}-${function}"] }]])[*].row },
    { title = "Cost of runs, by plan", stat = "Sum", unit = "US dollars", metrics = [
    for pair in keys(local.pairs) : ["Sealift", "PlannedDollars", "System", local.name, "Pair", pair]] },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  region         = local.region
  dashboard_name = local.name
  dashboard_body = jsonencode({
    widgets = concat(
      [for number, panel in local.panels : {
        type = "metric", x = number % 2 * 12, y = floor(number / 2) * 6, width = 12, height = 6
        properties = {
          title   = panel.title
          region  = local.region
          view    = "timeSeries"
          stat    = panel.stat
          period  = 300
          metrics = panel.metrics
          yAxis   = { left = { label = panel.unit, min = 0, showUnits = false } }
        }
      }],
      [for rules in [[for each in values(local.replication_alarms) : each if each.metric == "ReplicationLatency"]] : {
        type = "metric", x = 0, y = ceil(length(local.panels) / 2) * 6, width = 24, height = 6
        properties = {
          title  = "Replication latency"
          region = local.region
          view   = "timeSeries"
          stat   = "Maximum"
          period = 300
          metrics = [for each in rules : ["AWS/S3", "ReplicationLatency", "SourceBucket", each.hot, "DestinationBucket", each.twin,
          "RuleId", each.rule, { region = each.region }]]
          yAxis = { left = { label = "s", min = 0, showUnits = false } }
        }
      } if length(rules) > 0],
    )
  })
}
