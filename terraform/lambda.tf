# The four functions: parse, decide, hand over. One package, `make lambda`.

locals {
  functions = {
    backup  = { role = "backup", timeout_seconds = 300, memory_mib = 512, concurrency = var.backup_concurrency, does = "Copies each new object version to its hot bucket" }
    enqueue = { role = "control", timeout_seconds = 300, memory_mib = 256, concurrency = 2, does = "Turns a backlog into a manifest" }
    submit  = { role = "control", timeout_seconds = 60, memory_mib = 256, concurrency = 5, does = "Starts runs" }
    follow  = { role = "control", timeout_seconds = 60, memory_mib = 256, concurrency = 10, does = "Moves runs on, closes them, tells people" }
  }
  lambda_zip = coalesce(var.lambda_zip, "${path.module}/../build/lambda-arm64.zip")

  # What `sealift` reads, wherever it runs: jobs/config.py.
  environment = merge({
    SEALIFT_POLICY               = local.policy_uri
    SEALIFT_LEDGER               = local.ledger_uri
    SEALIFT_SYSTEM               = local.name # the tag of jobs, by which iam.tf lets roles end them
    SEALIFT_BATCH_QUEUE          = local.queue_names["workers"]
    SEALIFT_BATCH_JOB_DEFINITION = "${local.name}-{job}"        # each job with its own role: jobs/runs/placement.py
  }, local.by_endpoint ? { SEALIFT_ENDPOINTS_ONLY = "1" } : {}) # S3 refuses copies between regions by an endpoint: workers stream them
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_117:a function outside a VPC reaches S3 in every region and nothing of ours; in one it would need endpoints or NAT
  #checkov:skip=CKV_AWS_50:functions log what they do, request by request; nobody asked for traces
  #checkov:skip=CKV_AWS_272:the package is pinned by its hash; signing needs a profile that only the account's owner can make
  for_each = local.functions

  region                         = local.region
  function_name                  = "${local.name}-${each.key}"
  description                    = each.value.does
  role                           = aws_iam_role.this["fn-${each.value.role}"].arn
  runtime                        = "python3.13"
  handler                        = "scheduler.${each.key}.handler"
  architectures                  = ["arm64"]
  timeout                        = each.value.timeout_seconds
  memory_size                    = each.value.memory_mib
  reserved_concurrent_executions = var.reserve_concurrency ? each.value.concurrency : -1 # -1: none is reserved
  kms_key_arn                    = local.key_arns[local.region]
  tags                           = local.tags

  filename          = var.lambda_object == null ? local.lambda_zip : null
  source_code_hash  = var.lambda_object == null ? try(filebase64sha256(local.lambda_zip), null) : var.lambda_object.hash
  s3_bucket         = try(var.lambda_object.bucket, null)
  s3_key            = try(var.lambda_object.key, null)
  s3_object_version = try(var.lambda_object.version, null)

  environment {
    variables = merge(local.environment, {
      SEALIFT_BATCH_QUEUE = local.queue_names["orchestrators"] # what functions start waits for workers
      SEALIFT_TOPIC       = local.topic_arn
    })
  }

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.this.name
  }

  # where an asynchronous call ends that failed three times; backup is not called so
  dead_letter_config {
    target_arn = aws_sqs_queue.this["undelivered"].arn
  }

  lifecycle {
    precondition {
      condition     = var.lambda_object != null || fileexists(local.lambda_zip)
      error_message = "There is no ${local.lambda_zip}: run `make lambda`, or set lambda_zip or lambda_object."
    }
  }

  depends_on = [aws_iam_role_policy.this, aws_s3_object.policy]
}

resource "aws_lambda_event_source_mapping" "this" {
  for_each = { objects = "backup" }

  region                             = local.region
  event_source_arn                   = aws_sqs_queue.this[each.key].arn
  function_name                      = aws_lambda_function.this[each.value].arn
  batch_size                         = 100
  maximum_batching_window_in_seconds = 1
  function_response_types            = ["ReportBatchItemFailures"] # without it a failed message is deleted with the others
  tags                               = local.tags

  scaling_config {
    maximum_concurrency = local.functions[each.value].concurrency
  }

  # a policy that is not there yet would be a burst of failures
  depends_on = [aws_s3_object.policy]
}
