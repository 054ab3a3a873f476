# Where runs work: queues, compute environments, one job definition per job, and the image's repository.

locals {
  # Spot first; on demand for `--on-demand`, for those who cannot wait. EC2 and Fargate do not mix in one queue.
  #
  # Orchestrators (nights, backfills and what else functions start) wait for arrays of workers, for days if need be. With
  # vCPUs of their own they never hold what they wait for, and on demand nobody takes theirs away.
  environments = {
    fargate_spot = { spot = "FARGATE_SPOT", on_demand = "FARGATE", orchestrators = "FARGATE" }
    fargate      = { spot = "FARGATE", on_demand = "FARGATE", orchestrators = "FARGATE" }
    ec2_spot     = { spot = "SPOT", on_demand = "EC2", orchestrators = "EC2" }
  }[local.batch.compute]
  max_vcpus = {
    spot          = local.batch.max_vcpus
    on_demand     = local.batch.max_vcpus
    orchestrators = (2 * length(local.pairs) + 2) * local.batch.vcpus # a night and a backfill of each pair, and two more
  }
  orchestrators = ["nightly", "backfill"] # jobs that are nothing else
  is_fargate    = local.batch.compute != "ec2_spot"
  makes_queue   = local.batch.queue == null

  new_queues = { for name in keys(local.environments) : name => "${local.name}-${replace(name, "_", "-")}"
  if local.makes_queue && (name != "orchestrators" || local.batch.orchestrator_queue == null) }
  queue_names = { for name in keys(local.environments) : name => coalesce(
    name == "orchestrators" ? local.batch.orchestrator_queue : null, local.batch.queue, lookup(local.new_queues, name, null)
  ) }
  queue_arns = { for name, queue in local.queue_names : name => "arn:${local.partition}:batch:${local.region}:${local.account}:job-queue/${queue}" }

  # Several families and sizes, so that Spot finds capacity somewhere; all of the image's architecture.
  instance_types = length(var.ec2_instance_types) > 0 ? var.ec2_instance_types : {
    X86_64 = ["c6i", "c6a", "c7i", "c7a", "m6i", "m6a", "m7i", "m7a"]
    ARM64  = ["c6g", "c7g", "c8g", "m6g", "m7g", "m8g"]
  }[var.image_architecture]

  jobs = merge(
    {
      inventory = "Lists a bucket into an inventory report"
      replicate = "Copies the object versions of a manifest"
      verify    = "Proves that copies are the same as their originals"
      reconcile = "Compares two inventory reports"
      nightly   = "Reconciles, repairs, verifies and reports a pair"
      backfill  = "Copies what a pair's source holds already"
    },
    { for name in ["compact", "restore"] : name => { compact = "Packs small cold objects", restore = "Brings objects back" }[name] if length(local.archives) > 0 },
    { for name in ["expire"] : name => "Deletes originals whose archive is proven" if length(local.expiring) > 0 },
  )
  job_uid             = 65532 # the image's user
  job_names           = { for job in keys(local.jobs) : job => "${local.name}-${job}" }
  job_definition_arns = [for name in values(local.job_names) : "arn:${local.partition}:batch:${local.region}:${local.account}:job-definition/${name}"]
}

resource "aws_ecr_repository" "this" {
  region               = local.region
  name                 = local.name
  image_tag_mutability = "IMMUTABLE"
  tags                 = local.tags

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = local.key_arns[local.region]
  }

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  region     = local.region
  repository = aws_ecr_repository.this.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "The last 20 images: runs that go on for days start workers of an older one"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
      action       = { type = "expire" }
    }]
  })
}

resource "aws_batch_compute_environment" "this" {
  for_each = { for name in keys(local.new_queues) : name => local.environments[name] }

  region      = local.region
  name_prefix = "${local.name}-${replace(each.key, "_", "-")}-"
  type        = "MANAGED"
  state       = "ENABLED"
  tags        = local.tags

  compute_resources {
    type               = each.value
    max_vcpus          = local.max_vcpus[each.key]
    subnets            = local.subnet_ids
    security_group_ids = local.security_group_ids

    # what follows is for EC2 only
    min_vcpus           = local.is_fargate ? null : 0
    allocation_strategy = local.is_fargate ? null : { SPOT = "SPOT_PRICE_CAPACITY_OPTIMIZED", EC2 = "BEST_FIT_PROGRESSIVE" }[each.value]
    instance_role       = local.is_fargate ? null : aws_iam_instance_profile.worker["ec2"].arn
    instance_type       = local.is_fargate ? null : local.instance_types

    dynamic "launch_template" {
      for_each = aws_launch_template.worker

      content {
        launch_template_id = launch_template.value.id
        version            = launch_template.value.latest_version
      }
    }

    dynamic "ec2_configuration" {
      for_each = local.is_fargate ? [] : ["ECS_AL2023"]

      content {
        image_type = ec2_configuration.value
      }
    }
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [aws_vpc_endpoint.interface, aws_vpc_endpoint.s3]
}

resource "aws_launch_template" "worker" {
  for_each = toset([for name in ["ec2"] : name if local.makes_queue && !local.is_fargate])

  region      = local.region
  name_prefix = "${local.name}-worker-"
  tags        = local.tags

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # a container with a network of its own does not get the host's role
  }

  # Jobs have the host's network, so that neither the hop limit nor ECS_AWSVPC_BLOCK_IMDS holds them: their user is cut off.
  # https://docs.aws.amazon.com/batch/latest/userguide/networking-modes-jobs.html
  # A host on which that fails takes no jobs. Batch merges its own part: it has to be a MIME archive.
  # https://docs.aws.amazon.com/batch/latest/userguide/launch-templates.html
  user_data = base64encode(<<-END
    MIME-Version: 1.0
    Content-Type: multipart/mixed; boundary="==SEALIFT=="

    --==SEALIFT==
    Content-Type: text/x-shellscript; charset="us-ascii"

    #!/bin/bash
    iptables --wait --insert OUTPUT --destination 169.254.169.254 --match owner --uid-owner ${local.job_uid} --jump REJECT || poweroff

    --==SEALIFT==--
  END
  )

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = 30 + local.batch.disk_gib
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }
}

resource "aws_batch_scheduling_policy" "fair" {
  for_each = toset([for name in ["fair"] : name if var.fair_share && local.makes_queue])

  region = local.region
  name   = local.name
  tags   = local.tags

  fair_share_policy {
    share_decay_seconds = 3600
    compute_reservation = 10 # per cent kept for shares that have nothing running yet
  }
}

resource "aws_batch_job_queue" "this" {
  for_each = local.new_queues

  region                = local.region
  name                  = each.value
  state                 = "ENABLED"
  priority              = { spot = 10, on_demand = 20, orchestrators = 30 }[each.key]
  scheduling_policy_arn = one([for policy in aws_batch_scheduling_policy.fair : policy.arn])
  tags                  = local.tags

  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.this[each.key].arn
  }

  # https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateJobQueue.html: Spot and on demand may follow each other
  dynamic "compute_environment_order" {
    for_each = [for name in ["on_demand"] : name if var.on_demand_behind_spot && each.key == "spot" && local.batch.compute != "fargate"]

    content {
      order               = 2
      compute_environment = aws_batch_compute_environment.this[compute_environment_order.value].arn
    }
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

resource "aws_cloudwatch_log_group" "batch" {
  region            = local.region
  name              = "/aws/batch/${local.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = local.key_arns[local.region]
  tags              = local.tags
}

# A job definition holds its job's role: a worker of verify cannot do what a worker of replicate may.
resource "aws_batch_job_definition" "this" {
  for_each = local.jobs

  region                     = local.region
  name                       = local.job_names[each.key]
  type                       = "container"
  platform_capabilities      = [local.is_fargate ? "FARGATE" : "EC2"]
  propagate_tags             = true
  deregister_on_new_revision = false # runs under way go on with the revision that they were submitted with
  tags                       = local.tags

  container_properties = jsonencode(merge(
    {
      image            = var.image
      command          = [each.key, "--help"] # whoever submits says what to do; a job without says what it could
      jobRoleArn       = aws_iam_role.job[each.key].arn
      executionRoleArn = aws_iam_role.execution.arn
      user             = "${local.job_uid}:${local.job_uid}"

      readonlyRootFilesystem = true
      linuxParameters        = { initProcessEnabled = true } # as PID 1 the program would not get a SIGTERM that it does not handle
      # the only place to write to: scratch files of plans and joins
      volumes     = [{ name = "scratch" }]
      mountPoints = [{ sourceVolume = "scratch", containerPath = "/scratch", readOnly = false }]

      resourceRequirements = [
        { type = "VCPU", value = tostring(local.batch.vcpus) },
        { type = "MEMORY", value = tostring(local.batch.memory_mib) },
      ]
      environment = [for name, value in merge(local.environment, {
        AWS_REGION = local.region
      }) : { name = name, value = value }]
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.batch.name
          awslogs-region        = local.region
          awslogs-stream-prefix = each.key
        }
      }
    },
    { for name, value in {
      ephemeralStorage             = { sizeInGiB = local.batch.disk_gib }
      networkConfiguration         = { assignPublicIp = "DISABLED" }
      fargatePlatformConfiguration = { platformVersion = "LATEST" }
      runtimePlatform              = { operatingSystemFamily = "LINUX", cpuArchitecture = var.image_architecture }
    } : name => value if local.is_fargate },
  ))

  # Exit codes: jobs/errors.py; the same rules as a submission brings, jobs/aws/batch_arrays.py.
  retry_strategy {
    attempts = 5

    evaluate_on_exit {
      action       = "RETRY"
      on_exit_code = "75" # transient or interrupted, after a checkpoint
    }

    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Host EC2*" # Spot took the host back
    }

    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Your Spot Task was interrupted*" # Spot took the Fargate task back
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
}
