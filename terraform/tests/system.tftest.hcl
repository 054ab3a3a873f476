# The system of policy.example.yaml: three pairs, two of which share a hot bucket, in three regions. No account is needed.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }
}

variables {
  policy_file   = "../policy.example.yaml"
  image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/parcels@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  lambda_object = { bucket = "example-packages", key = "sealift/lambda-arm64.zip" }
}

run "buckets" {
  command = plan

  assert {
    condition     = length(aws_s3_bucket.this) == 8 && length(aws_s3_bucket_versioning.this) == 8
    error_message = "Two hot buckets, a replica, an archive, three for inventory, the ledger; the shared hot bucket once: ${join(", ", keys(aws_s3_bucket.this))}"
  }

  assert {
    condition     = !anytrue([for bucket in ["example-scans", "example-customs-us", "example-tracking"] : contains(keys(aws_s3_bucket.this), bucket)])
    error_message = "Source buckets are referenced, never owned."
  }

  assert {
    condition     = aws_s3_bucket.this["example-hot-dub"].region == "eu-west-1" && aws_s3_bucket.this["example-inventory-iad"].region == "us-east-1"
    error_message = "Each bucket is in the region that the policy says."
  }

  assert {
    condition = alltrue([for bucket in values(aws_s3_bucket_public_access_block.this) :
      bucket.block_public_acls && bucket.block_public_policy && bucket.ignore_public_acls && bucket.restrict_public_buckets
    ]) && length(aws_s3_bucket_public_access_block.this) == length(aws_s3_bucket.this)
    error_message = "No bucket is public."
  }

  assert {
    condition     = alltrue([for bucket in values(aws_s3_bucket_ownership_controls.this) : bucket.rule[0].object_ownership == "BucketOwnerEnforced"])
    error_message = "The bucket's owner owns every object."
  }

  assert {
    condition     = keys(aws_s3_bucket_object_lock_configuration.this) == ["example-customs-copies", "example-hot-fra"]
    error_message = "Object Lock where the policy asks for it."
  }

  assert {
    condition     = aws_s3_bucket.this["example-hot-dub"].object_lock_enabled && !aws_s3_bucket.this["example-ledger"].object_lock_enabled
    error_message = "The replica of a locked bucket has Object Lock, too: S3 would not replicate to it otherwise."
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.this["example-customs-copies"].rule[0].default_retention[0].mode == "COMPLIANCE"
    error_message = "The lock's mode is the policy's."
  }

  assert {
    condition     = toset(keys(aws_kms_key.this)) == toset(["eu-central-1", "eu-west-1", "us-east-1"]) && alltrue([for key in values(aws_kms_key.this) : key.enable_key_rotation])
    error_message = "A rotating key in each region that asks for one."
  }

  assert {
    condition     = length(aws_s3_bucket_inventory.this) == 5 && !contains(keys(aws_s3_bucket_inventory.this), "example-tracking")
    error_message = "Inventories of two sources, two hot buckets and the replica; not of a source that says inventory: false."
  }
}

run "denials" {
  command = plan

  assert {
    condition = alltrue([for bucket in values(aws_s3_bucket_policy.this) : length([
      for statement in jsondecode(bucket.policy).Statement : statement
      if statement.Effect == "Deny" && statement.Principal == "*" && statement.Action == "s3:BypassGovernanceRetention"
    ]) == 1])
    error_message = "Every bucket denies everyone to bypass Object Lock."
  }

  assert {
    condition = alltrue([for bucket in values(aws_s3_bucket_policy.this) : length([
      for statement in jsondecode(bucket.policy).Statement : statement
      if statement.Effect == "Deny" && try(statement.Condition.Bool["aws:SecureTransport"], "") == "false"
    ]) == 1])
    error_message = "Every bucket takes TLS only."
  }

  assert {
    condition     = alltrue([for role, guards in local.guards : contains(flatten([for guard in guards : guard.Action if guard.Effect == "Deny"]), "s3:BypassGovernanceRetention")])
    error_message = "Every role is denied to bypass Object Lock."
  }

  assert {
    condition     = [for role, guards in local.guards : role if !contains(guards[0].Action, "s3:DeleteObjectVersion")] == ["expire"]
    error_message = "Every role but expire is denied to delete versions."
  }

  assert {
    condition = (
      jsonencode(local.deletable["replicate"]) == jsonencode(["arn:aws:s3:::example-customs-copies/*", "arn:aws:s3:::example-ledger/sealift/state/*"]) &&
      jsonencode(local.deletable["verify"]) == jsonencode(["arn:aws:s3:::example-ledger/sealift/state/*"]) && length(local.deletable["restore"]) == 0
    )
    error_message = "Delete markers where the policy mirrors deletes and in the ledger's state, and nowhere else."
  }

  assert {
    condition     = jsonencode({ for at, place in local.declared : at => place.rank }) == jsonencode({ "example-archives-fra/delivery/ keep" = 2, "example-scans/ keep" = 0 })
    error_message = "A pair that lets originals expire has two places, and copies have the higher rank."
  }
}

run "wiring" {
  command = plan

  assert {
    condition     = keys(aws_s3_bucket_notification.source) == ["example-customs-us", "example-scans"]
    error_message = "No notifications on a source whose owner keeps them (tracking)."
  }

  assert {
    condition     = aws_s3_bucket_notification.source["example-customs-us"].eventbridge && length(aws_s3_bucket_notification.source["example-customs-us"].queue) == 0
    error_message = "A source in another region sends to EventBridge: S3 reaches queues of its own region only."
  }

  assert {
    condition     = toset(aws_s3_bucket_notification.source["example-scans"].queue[*].filter_prefix) == toset(["scans/", "signatures/"])
    error_message = "A notification for each prefix."
  }

  assert {
    condition     = contains(keys(aws_cloudwatch_event_rule.home), "objects-example-tracking") && contains(keys(aws_cloudwatch_event_rule.forward), "objects-example-customs-us-us-east-1")
    error_message = "Events that do not come directly come by EventBridge, from other regions by its bus."
  }

  assert {
    condition     = length(jsondecode(aws_cloudwatch_event_rule.home["batch-failed"].event_pattern).detail.jobQueue) == 3
    error_message = "Only jobs of our own queues are followed."
  }

  assert {
    condition     = keys(aws_scheduler_schedule.nightly) == ["customs", "scans", "tracking"]
    error_message = "A night for each pair."
  }

  assert {
    condition     = aws_scheduler_schedule.nightly["customs"].schedule_expression == "cron(30 22 * * ? *)" && aws_scheduler_schedule.nightly["customs"].schedule_expression_timezone == "America/New_York"
    error_message = "At the pair's hour, in the pair's time zone."
  }

  assert {
    condition     = keys(aws_s3_bucket_replication_configuration.this) == ["example-hot-fra"] && length(aws_s3_bucket_replication_configuration.this["example-hot-fra"].rule) == 3
    error_message = "One configuration for the shared bucket, a rule for each prefix of each pair."
  }

  assert {
    condition = alltrue([for rule in aws_s3_bucket_replication_configuration.this["example-hot-fra"].rule :
    rule.delete_marker_replication[0].status == "Enabled" && rule.destination[0].replication_time[0].time[0].minutes == 15])
    error_message = "Replication time control and delete markers as the policy says."
  }

  assert {
    condition     = length(distinct(aws_s3_bucket_replication_configuration.this["example-hot-fra"].rule[*].priority)) == 3 && length(distinct(aws_s3_bucket_replication_configuration.this["example-hot-fra"].rule[*].filter[0].prefix)) == 3
    error_message = "Two pairs in one bucket do not collide."
  }

  assert {
    condition     = length(aws_lambda_function.this) == 4 && alltrue([for function in values(aws_lambda_function.this) : function.architectures[0] == "arm64" && function.reserved_concurrent_executions == -1])
    error_message = "Four functions on arm64, which a new account can make: it has no concurrency to reserve."
  }

  assert {
    condition     = aws_lambda_event_source_mapping.this["objects"].scaling_config[0].maximum_concurrency == 20
    error_message = "The queue calls no more than 20 backup functions at once, reserved or not."
  }

  assert {
    condition     = contains(aws_lambda_event_source_mapping.this["objects"].function_response_types, "ReportBatchItemFailures")
    error_message = "Partial batch responses."
  }

  assert {
    condition     = aws_sqs_queue.this["objects"].visibility_timeout_seconds >= 6 * aws_lambda_function.this["backup"].timeout
    error_message = "A queue's visibility is at least six times the function's timeout."
  }

  assert {
    condition     = length([for name, alarm in aws_cloudwatch_metric_alarm.night : name if alarm.evaluation_periods * alarm.period == 26 * 3600 && alarm.treat_missing_data == "breaching"]) == 3
    error_message = "26 silent hours are an alarm, for each pair."
  }

  assert {
    condition     = aws_budgets_budget.month["month"].limit_amount == "900"
    error_message = "The budget is the policy's."
  }
}

run "workers" {
  command = plan

  assert {
    condition     = aws_batch_compute_environment.this["spot"].compute_resources[0].type == "FARGATE_SPOT" && aws_batch_compute_environment.this["on_demand"].compute_resources[0].type == "FARGATE"
    error_message = "Fargate Spot by default, Fargate for those who cannot wait."
  }

  assert {
    condition     = aws_batch_job_queue.this["on_demand"].priority > aws_batch_job_queue.this["spot"].priority
    error_message = "Who cannot wait goes first."
  }

  assert {
    condition = alltrue([for definition in values(aws_batch_job_definition.this) : [
      for rule in definition.retry_strategy[0].evaluate_on_exit : coalesce(rule.on_exit_code, rule.on_status_reason, rule.on_reason)
    ] == ["75", "Host EC2*", "Your Spot Task was interrupted*", "Task failed to start*", "*"]])
    error_message = "Retried: transient, taken back by Spot, never started; nothing else."
  }

  assert {
    condition     = alltrue([for job, definition in aws_batch_job_definition.this : contains(["nightly", "backfill"], job) ? length(definition.timeout) == 0 : definition.timeout[0].attempt_duration_seconds == 43200])
    error_message = "A worker's timeout is the policy's. What waits for workers has none."
  }

  assert {
    condition     = contains(keys(aws_batch_job_definition.this), "expire") && length(aws_iam_role.job) == length(aws_batch_job_definition.this)
    error_message = "A role for each job."
  }
}

run "network" {
  command = plan

  assert {
    condition     = length(aws_subnet.private) == 2 && alltrue([for subnet in values(aws_subnet.private) : subnet.map_public_ip_on_launch != true])
    error_message = "Two private subnets."
  }

  assert {
    condition     = aws_vpc_endpoint.s3["this"].vpc_endpoint_type == "Gateway"
    error_message = "S3 by the gateway endpoint, which is free."
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["batch", "ecr.api", "ecr.dkr", "logs", "s3-eu-west-1", "s3-us-east-1"])
    error_message = "The interface endpoints that Fargate and the policy's regions need, and no others."
  }

  assert {
    condition     = length([for rule in values(aws_vpc_security_group_egress_rule.s3) : rule if rule.cidr_ipv4 != null]) == 0
    error_message = "Workers reach endpoints, not the internet."
  }
}

run "own_subnets" {
  command = plan

  variables {
    subnet_ids         = ["subnet-0a1b2c3d4e5f60718"]
    security_group_ids = ["sg-0a1b2c3d4e5f60718"]
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && length(aws_vpc_endpoint.interface) == 0 && length(aws_batch_job_queue.this) == 3
    error_message = "With subnets of yours no network is made."
  }
}

run "minimal" {
  command = plan

  variables {
    policy_file = "examples/minimal/policy.yaml"
  }

  assert {
    condition     = length(aws_s3_bucket.this) == 2 && length(aws_s3_bucket_replication_configuration.this) == 0 && length(aws_iam_role.replication) == 0
    error_message = "A hot bucket and a ledger."
  }

  assert {
    condition     = !contains(keys(aws_batch_job_definition.this), "expire") && !contains(keys(aws_iam_role.job), "expire")
    error_message = "Who expires nothing has no role that deletes."
  }

  assert {
    condition     = length(aws_budgets_budget.month) == 0 && length(aws_cloudwatch_event_rule.forward) == 0
    error_message = "One region, no budget."
  }
}

run "full" {
  command = plan

  variables {
    policy_file        = "examples/full/policy.yaml"
    image_architecture = "ARM64"
    fair_share         = true
    access_logs        = false
    restore_to         = ["example-restored/"]
  }

  assert {
    condition     = aws_batch_compute_environment.this["spot"].compute_resources[0].type == "SPOT" && length(aws_batch_compute_environment.this["spot"].compute_resources[0].instance_type) > 3
    error_message = "EC2 Spot with several families."
  }

  assert {
    condition     = length(aws_batch_scheduling_policy.fair) == 1 && length(aws_s3_bucket.logs) == 0
    error_message = "Fair shares, no access logs."
  }

  assert {
    condition     = contains(keys(aws_vpc_endpoint.interface), "ecs-agent") && alltrue([for template in values(aws_launch_template.worker) : template.metadata_options[0].http_tokens == "required"])
    error_message = "EC2 hosts reach their cluster; their metadata takes a token."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.replication) == 6 && aws_cloudwatch_metric_alarm.replication["america-replication"].region == "eu-central-1" && aws_cloudwatch_metric_alarm.replication["america-replication-failed"].region == "us-east-1"
    error_message = "Latency is watched in the replica's region, failed operations in the hot bucket's."
  }
}
