# What a plan of the examples makes. No account is needed; tests/terraform asks more, by the program's own code.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012", arn = "arn:aws:iam::123456789012:root" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }

  mock_data "aws_subnet" {
    defaults = { map_public_ip_on_launch = false }
  }
}

variables {
  policy_file   = "examples/full/policy.json"
  image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sealift@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  lambda_object = { bucket = "example-packages", key = "sealift/lambda-arm64.zip", version = "3HL4kqtJvjVBH40Nrjfkd" }
}

run "buckets" {
  command = plan

  assert {
    condition     = length(aws_s3_bucket.this) == 9 && length(aws_s3_bucket_versioning.this) == 9
    error_message = "Two hot buckets, two twins, an archive, two for inventory, the ledger, drills: ${join(", ", keys(aws_s3_bucket.this))}"
  }

  assert {
    condition     = !anytrue([for bucket in ["example-europe", "example-america"] : contains(keys(aws_s3_bucket.this), bucket)])
    error_message = "Source buckets are referenced, never owned."
  }

  assert {
    condition = alltrue([for bucket in values(aws_s3_bucket_public_access_block.this) :
      bucket.block_public_acls && bucket.block_public_policy && bucket.ignore_public_acls && bucket.restrict_public_buckets
    ]) && length(aws_s3_bucket_public_access_block.this) == length(aws_s3_bucket.this)
    error_message = "No bucket is public."
  }

  assert {
    condition     = keys(aws_s3_bucket_object_lock_configuration.this) == ["example-europe-hot"] && aws_s3_bucket.this["example-europe-twin"].object_lock_enabled && !aws_s3_bucket.this["example-ledger"].object_lock_enabled
    error_message = "Object Lock where the policy asks for it, and on the replica of a locked bucket: S3 would not replicate to it otherwise."
  }

  assert {
    condition     = keys(aws_kms_key.this) == ["eu-central-1", "us-east-1"] && alltrue([for key in values(aws_kms_key.this) : key.enable_key_rotation])
    error_message = "A rotating key in each region that asks for one."
  }

  assert {
    condition = alltrue([for bucket in values(aws_s3_bucket_policy.this) : length([
      for statement in jsondecode(bucket.policy).Statement : statement
      if statement.Effect == "Deny" && statement.Principal == "*" && (statement.Action == "s3:BypassGovernanceRetention" || try(statement.Condition.Bool["aws:SecureTransport"], "") == "false")
    ]) == 2])
    error_message = "Every bucket denies everyone to bypass Object Lock, and takes TLS only."
  }
}

run "wiring" {
  command = plan

  assert {
    condition     = aws_s3_bucket_notification.source["example-america"].eventbridge && length(aws_s3_bucket_notification.source["example-america"].queue) == 0
    error_message = "A source in another region sends to EventBridge: S3 reaches queues of its own region only."
  }

  assert {
    condition     = toset(aws_s3_bucket_notification.source["example-europe"].queue[*].filter_prefix) == toset(["documents/", "scans/"])
    error_message = "A notification for each prefix."
  }

  assert {
    condition     = aws_cloudwatch_event_rule.this["objects-example-america-us-east-1"].region == "us-east-1" && aws_cloudwatch_event_target.this["objects-example-america-us-east-1"].target_id == "bus"
    error_message = "Events of other regions come by our region's bus."
  }

  assert {
    condition     = aws_scheduler_schedule.pair["america"].schedule_expression == "cron(30 3 * * ? *)" && aws_scheduler_schedule.pair["america"].schedule_expression_timezone == "America/New_York"
    error_message = "At the pair's hour, in the pair's time zone."
  }

  assert {
    condition     = aws_scheduler_schedule.pair["america/drill"].schedule_expression == "rate(168 hours)" && length(aws_scheduler_schedule.pair) == 4
    error_message = "A night and a weekly drill of each pair."
  }

  assert {
    condition = anytrue([for rule in aws_s3_bucket_lifecycle_configuration.this["example-drills"].rule : rule.id == "drills" && rule.status == "Enabled" &&
    rule.expiration[0].days == 7 && rule.noncurrent_version_expiration[0].noncurrent_days == 1])
    error_message = "What a killed drill left ends after a week."
  }

  assert {
    condition     = length(distinct(aws_s3_bucket_replication_configuration.this["example-europe-hot"].rule[*].priority)) == 2 && alltrue([for rule in aws_s3_bucket_replication_configuration.this["example-europe-hot"].rule : rule.delete_marker_replication[0].status == "Enabled" && rule.destination[0].replication_time[0].time[0].minutes == 15])
    error_message = "A rule for each prefix, with replication time control and delete markers as the policy says."
  }

  assert {
    condition     = alltrue([for function in values(aws_lambda_function.this) : function.reserved_concurrent_executions == -1]) && aws_lambda_event_source_mapping.this["objects"].scaling_config[0].maximum_concurrency == 20
    error_message = "No concurrency is reserved, since a new account has none to reserve; the queue calls no more than 20 backup functions at once."
  }

  assert {
    condition     = contains(aws_lambda_event_source_mapping.this["objects"].function_response_types, "ReportBatchItemFailures") && aws_sqs_queue.this["objects"].visibility_timeout_seconds >= 6 * aws_lambda_function.this["backup"].timeout
    error_message = "Partial batch responses, and a visibility of at least six times the function's timeout."
  }

  assert {
    condition     = length([for name, alarm in aws_cloudwatch_metric_alarm.this : name if endswith(name, "-no-night") && alarm.evaluation_periods * alarm.period == 26 * 3600 && alarm.treat_missing_data == "breaching"]) == 2
    error_message = "26 silent hours are an alarm, for each pair."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["america-replication"].region == "eu-central-1" && aws_cloudwatch_metric_alarm.this["america-replication-failed"].region == "us-east-1"
    error_message = "Latency is watched in the replica's region, failed operations in the hot bucket's."
  }

  assert {
    condition     = aws_budgets_budget.month["month"].limit_amount == "2500"
    error_message = "The budget is the policy's."
  }

  assert {
    condition     = aws_batch_compute_environment.this["workers"].compute_resources[0].type == "FARGATE_SPOT" && aws_batch_compute_environment.this["orchestrators"].compute_resources[0].type == "FARGATE"
    error_message = "Workers on Spot; nobody takes back what waits for them."
  }

  assert {
    condition     = alltrue([for job, definition in aws_batch_job_definition.this : contains(["nightly", "backfill"], job) ? length(definition.timeout) == 0 : definition.timeout[0].attempt_duration_seconds == 43200])
    error_message = "A worker's timeout is the policy's. What waits for workers has none."
  }
}

run "closed_network" {
  command = plan

  variables {
    closed_network = true
  }

  assert {
    condition     = length(aws_subnet.this) == 1 && length(aws_internet_gateway.this) == 0
    error_message = "One subnet without a way out."
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["batch", "ecr.api", "ecr.dkr", "logs", "s3-us-east-1"]) && aws_vpc_endpoint.s3["this"].vpc_endpoint_type == "Gateway"
    error_message = "The endpoints that Fargate and the policy's regions need, and no others."
  }
}

run "own_subnets" {
  command = plan

  variables {
    subnet_ids         = ["subnet-0a1b2c3d4e5f60718"]
    security_group_ids = ["sg-0a1b2c3d4e5f60718"]
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && length(aws_vpc_endpoint.interface) == 0 && length(aws_vpc_endpoint.s3) == 0
    error_message = "With subnets of yours no network is made."
  }
}

run "minimal" {
  command = plan

  variables {
    policy_file = "examples/minimal/policy.json"
  }

  assert {
    condition     = length(aws_s3_bucket.this) == 2 && length(aws_vpc_endpoint.interface) == 0 && length(aws_budgets_budget.month) == 0 && keys(aws_cloudwatch_event_rule.this) == ["batch-ended"]
    error_message = "A hot bucket and a ledger, and nothing that costs by the hour."
  }

  assert {
    condition     = keys(aws_batch_job_definition.this) == ["backfill", "nightly", "replicate", "verify"] && toset(keys(aws_iam_role.this)) == toset(["execution", "fn-backup", "fn-control", "job-orchestrate", "job-replicate", "job-verify", "scheduler"])
    error_message = "Who archives and expires nothing has no role that deletes."
  }
}
