# The roles of AWS's own services: what starts containers, instances, schedules and event targets for the system.

# What starts a container: pulls the image, opens its log. The job itself does not have this role.
resource "aws_iam_role" "execution" {
  name                 = "${local.name}-execution"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "Starts the containers of jobs"
  assume_role_policy   = local.task_trust
  tags                 = local.tags
}

locals {
  task_trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ecs:${local.region}:${local.account}:*" }
      }
    }]
  })
}

resource "aws_iam_role_policy" "execution" {
  name = "start"
  role = aws_iam_role.execution.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
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
        Resource = aws_ecr_repository.this.arn
      },
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.batch.arn}:*"
      },
    ]
  })
}

resource "aws_iam_role" "worker" {
  for_each = aws_launch_template.worker

  name                 = "${local.name}-host"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "EC2 hosts of workers: they join their cluster"
  # No source account: EC2 sends none. An instance profile takes iam:PassRole in this account, so no other account can use it.
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
  tags = local.tags
}

# AWS keeps this policy, and adds to it what a newer agent needs.
resource "aws_iam_role_policy_attachment" "worker" {
  for_each = aws_iam_role.worker

  role       = each.value.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"

  lifecycle {
    ignore_changes = [policy_arn] # a partition that is read at apply would take the policy from hosts at work, for seconds
  }
}

resource "aws_iam_instance_profile" "worker" {
  for_each = aws_iam_role.worker

  name = each.value.name
  path = var.role_path
  role = each.value.name
  tags = local.tags
}

resource "aws_iam_role" "scheduler" {
  name                 = "${local.name}-scheduler"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "Schedules call submit and enqueue"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = aws_scheduler_schedule_group.this.arn } # Scheduler names the group, not the schedule
      }
    }]
  })
  tags = local.tags
}

resource "aws_iam_role_policy" "scheduler" {
  name = "call"
  role = aws_iam_role.scheduler.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Call"
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = [for name in ["submit", "enqueue"] : aws_lambda_function.this[name].arn]
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
    ]
  })
}

resource "aws_iam_role" "events" {
  name                 = "${local.name}-events"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "Rules of other regions forward to our region's bus"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:events:*:${local.account}:rule/${local.name}-*" }
      }
    }]
  })
  tags = local.tags
}

resource "aws_iam_role_policy" "events" {
  name = "forward"
  role = aws_iam_role.events.name
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Sid = "Forward", Effect = "Allow", Action = "events:PutEvents", Resource = local.home_bus }]
  })
}

resource "aws_iam_role" "flow" {
  for_each = local.vpc

  name                 = "${local.name}-flow-logs"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "The VPC's flow log"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ec2:${local.region}:${local.account}:vpc-flow-log/*" }
      }
    }]
  })
  tags = local.tags
}

resource "aws_iam_role_policy" "flow" {
  for_each = local.vpc

  name = "log"
  role = aws_iam_role.flow[each.key].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "Log"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
      Resource = "${aws_cloudwatch_log_group.flow[each.key].arn}:*"
    }]
  })
}
