# Every role: those of functions and jobs (iam.tf), and those in which AWS's own services start containers, call functions,
# forward events and replicate.

locals {
  # S3 sends no source account for replication, and a condition on one would stop it without a word. A configuration and a job
  # take iam:PassRole in this account, and their roles read our hot buckets only.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html
  trusts = { for service, source in {
    lambda    = "arn:aws:lambda:${local.region}:${local.account}:*" # a function, or an event source mapping that polls for it
    ecs-tasks = "arn:aws:ecs:${local.region}:${local.account}:*"
    scheduler = aws_scheduler_schedule_group.this.arn # Scheduler names the group, not the schedule
    events    = "arn:aws:events:*:${local.account}:rule/${local.name}-*"

    s3                   = null
    "batchoperations.s3" = null
    } : service => jsonencode({
      Version = "2012-10-17"
      Statement = [merge(
        { Effect = "Allow", Principal = { Service = "${service}.amazonaws.com" }, Action = "sts:AssumeRole" },
        source == null ? {} : { Condition = { StringEquals = { "aws:SourceAccount" = local.account }, ArnLike = { "aws:SourceArn" = source } } },
      )]
  }) }

  # role → who takes it, and what it may do
  all_roles = merge(
    { for role, each in local.roles : local.role_names[role] => { by = each.function ? "lambda" : "ecs-tasks", statements = local.statements[role] } },
    {
      # What starts a container. The job itself does not have this role.
      execution = { by = "ecs-tasks", statements = [
        {
          Sid      = "LogInToEcr"
          Effect   = "Allow"
          Action   = "ecr:GetAuthorizationToken"
          Resource = "*" # a login is the registry's, not a repository's
        },
        {
          Sid      = "PullTheImage"
          Effect   = "Allow"
          Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = local.repository_arn
        },
        {
          Sid      = "Log"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = "${aws_cloudwatch_log_group.this.arn}:*"
        },
      ] }
      scheduler = { by = "scheduler", statements = [
        {
          Sid      = "Call"
          Effect   = "Allow"
          Action   = "lambda:InvokeFunction"
          Resource = [for name in ["submit", "enqueue"] : "arn:aws:lambda:${local.region}:${local.account}:function:${local.name}-${name}"]
        },
        {
          Sid      = "DeadLetters"
          Effect   = "Allow"
          Action   = "sqs:SendMessage"
          Resource = aws_sqs_queue.this["undelivered"].arn
        },
        {
          Sid      = "ReadSchedulesAndWriteDeadLetters"
          Effect   = "Allow"
          Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
          Resource = local.key_arns[local.region]
        },
      ] }
    },
    { for role in ["events"] : role => { by = "events", statements = [
      { Sid = "Forward", Effect = "Allow", Action = "events:PutEvents", Resource = local.home_bus },
    ] } if local.forwards },
    { for role, each in local.replication_roles : role => each if length(local.replicated) > 0 },
  )

  # The image's repository, by its name: REGISTRY/name@sha256:…
  registry       = "${local.account}.dkr.ecr.${local.region}.amazonaws.com"
  repository_arn = "arn:aws:ecr:${local.region}:${local.account}:repository/${try(regex("^[^/]+/(.+)@", var.image)[0], "")}"
}

resource "aws_iam_role" "this" {
  for_each = { for role, each in local.all_roles : role => each.by }

  name                 = "${local.name}-${each.key}"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  assume_role_policy   = local.trusts[each.value]
  tags                 = local.tags
}

resource "aws_iam_role_policy" "this" {
  for_each = aws_iam_role.this

  name   = each.key
  role   = each.value.name
  policy = local.role_policies[each.key]

  lifecycle {
    precondition {
      condition     = lookup(local.known_lengths, each.key, 0) <= 10240
      error_message = local.too_many_pairs
    }

    precondition {
      condition     = length(local.role_policies[each.key]) <= 10240
      error_message = local.too_many_pairs
    }
  }
}
