# Where runs work: queues, compute environments and a job definition per job.

locals {
  # Orchestrators (nights, backfills and what else functions start) wait for arrays of workers, for days if need be. With
  # vCPUs of their own they never hold what they wait for, and on demand nobody takes theirs away.
  environments = {
    workers       = { type = upper(local.batch.compute), max_vcpus = local.batch.max_vcpus }
    orchestrators = { type = "FARGATE", max_vcpus = 2 * length(local.pairs) + 2 * local.batch.vcpus } # a night and a backfill of each pair, and two jobs of a worker's size
  }
  queue_names = { for name in keys(local.environments) : name => "${local.name}-${name}" }
  queue_arns  = { for name, queue in local.queue_names : name => "arn:aws:batch:${local.region}:${local.account}:job-queue/${queue}" }

  # job → the role that it has (iam.tf). What orchestrates compares and decides, and leaves the work to the others.
  jobs = merge(
    { replicate = "replicate", verify = "verify", nightly = "orchestrate", backfill = "orchestrate" },
    length(local.archives) > 0 ? { compact = "compact", restore = "restore" } : {},
    length(local.expiring) > 0 ? { expire = "expire" } : {},
    { for job in ["drill"] : job => job if length(local.drill) > 0 },
  )
  orchestrators = ["nightly", "backfill"] # jobs that wait for others
  job_names     = { for job in keys(local.jobs) : job => "${local.name}-${job}" }

  # What waits needs one vCPU, and of the memory as much as Fargate has with one.
  orchestrator = { vcpus = 1, memory_mib = min(local.batch.memory_mib, 8192) }
}

resource "aws_batch_compute_environment" "this" {
  for_each = local.environments

  region      = local.region
  name_prefix = "${local.name}-${each.key}-"
  type        = "MANAGED"
  tags        = local.tags

  compute_resources {
    type               = each.value.type
    max_vcpus          = each.value.max_vcpus
    subnets            = local.subnet_ids
    security_group_ids = local.security_group_ids
  }

  lifecycle {
    create_before_destroy = true

    # A subnet that gives addresses by itself is a public one, from which a Fargate task without an address gets nowhere.
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-task-networking.html
    precondition {
      condition     = local.assign_public_ip || !anytrue(data.aws_subnet.given[*].map_public_ip_on_launch)
      error_message = "subnet_ids: there is a public subnet, from which a worker without an address reaches nothing: set assign_public_ip = true, or name private subnets."
    }
  }

  depends_on = [aws_vpc_endpoint.interface, aws_vpc_endpoint.s3]
}

resource "aws_batch_job_queue" "this" {
  for_each = local.environments

  region   = local.region
  name     = local.queue_names[each.key]
  state    = "ENABLED"
  priority = 1
  tags     = local.tags

  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.this[each.key].arn
  }

  # A size that no environment offers would stand at the head of the queue for ever.
  dynamic "job_state_time_limit_action" {
    for_each = ["MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE", "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"]

    content {
      action           = "CANCEL"
      state            = "RUNNABLE"
      max_time_seconds = 1800
      reason           = job_state_time_limit_action.value
    }
  }
}

# A job definition holds its job's role: a worker of verify cannot do what a worker of replicate may.
resource "aws_batch_job_definition" "this" {
  for_each = local.jobs

  region                = local.region
  name                  = local.job_names[each.key]
  type                  = "container"
  platform_capabilities = ["FARGATE"]
  propagate_tags        = true
  tags                  = local.tags

  container_properties = jsonencode({
    image            = var.image
    command          = [each.key, "--help"] # whoever submits says what to do; a job without says what it could
    jobRoleArn       = aws_iam_role.this["job-${each.value}"].arn
    executionRoleArn = aws_iam_role.this["execution"].arn
    user             = "65532:65532" # the image's

    readonlyRootFilesystem = true
    linuxParameters        = { initProcessEnabled = true } # as PID 1 the program would not get a SIGTERM that it does not handle
    # the only place to write to: scratch files of plans and joins
    volumes     = [{ name = "scratch" }]
    mountPoints = [{ sourceVolume = "scratch", containerPath = "/scratch", readOnly = false }]

    resourceRequirements = [for size in [contains(local.orchestrators, each.key) ? local.orchestrator : { vcpus = local.batch.vcpus, memory_mib = local.batch.memory_mib }] : [
      { type = "VCPU", value = tostring(size.vcpus) },
      { type = "MEMORY", value = tostring(size.memory_mib) },
    ]][0]
    ephemeralStorage             = { sizeInGiB = local.batch.disk_gib }
    networkConfiguration         = { assignPublicIp = local.assign_public_ip ? "ENABLED" : "DISABLED" }
    fargatePlatformConfiguration = { platformVersion = "LATEST" }
    runtimePlatform              = { operatingSystemFamily = "LINUX", cpuArchitecture = var.image_architecture }
    environment                  = [for name, value in merge(local.environment, { AWS_REGION = local.region }) : { name = name, value = value }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = local.region
        awslogs-stream-prefix = each.key
      }
    }
  })

  # Exit codes: jobs/errors.py; the same rules as a submission brings, jobs/aws/batch_arrays.py.
  retry_strategy {
    attempts = 5

    evaluate_on_exit {
      action       = "RETRY"
      on_exit_code = "75" # transient or interrupted, after a checkpoint
    }

    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Host EC2*" # the host below a task has failed
    }

    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Your Spot Task was interrupted*" # Spot took the task back
    }

    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Task failed to start*" # the image or the network was out of reach
    }

    evaluate_on_exit {
      action    = "EXIT" # what matches nothing would be retried
      on_reason = "*"
    }
  }

  # A worker's. What waits for workers has none here: a function says how long its jobs may take (scheduler/batch_starts.py).
  dynamic "timeout" {
    for_each = contains(local.orchestrators, each.key) ? [] : [local.batch.timeout_hours * 3600]

    content {
      attempt_duration_seconds = timeout.value
    }
  }

  lifecycle {
    precondition {
      condition     = startswith(var.image, "${local.registry}/")
      error_message = "image: expected one of ${local.registry}, the registry from which workers may pull: terraform/repository makes a place for it."
    }
  }
}
