# An account that keeps copies, replicas or archives of a Sealift system in another account. Its owners apply this, with a
# provider of theirs: buckets and keys are theirs, what lies there is theirs (new buckets have BucketOwnerEnforced), and the
# system's roles are let in for what the policies below say, and nothing else. Settings are those of storage.tf, two folders above.

data "aws_caller_identity" "current" {}

locals {
  account  = data.aws_caller_identity.current.account_id
  tags     = merge({ System = var.asked.name, ManagedBy = "terraform" }, var.tags)
  buckets  = var.asked.buckets
  keyed    = toset([for each in values(local.buckets) : each.region if each.kms_key == "create"])
  forwards = var.asked.events

  forward_regions = toset(values(local.forwards)[*].region)
}

resource "aws_kms_key" "this" {
  for_each = local.keyed

  region                  = each.key
  description             = "Copies of Sealift ${var.asked.name}, account ${var.asked.system_account}, in ${each.key}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([{
      Sid       = "TheAccountAdministersItsKey"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${local.account}:root" }
      Action    = "kms:*"
      Resource  = "*" # in a key's policy: this key
    }], jsondecode(var.asked.key_statements[each.key]))
  })
  tags = local.tags

  # copies lie under it
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "this" {
  for_each = aws_kms_key.this

  region        = each.key
  name          = "alias/${var.asked.name}"
  target_key_id = each.value.key_id
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:who reads is in CloudTrail's data events, where the owner asks for them
  #checkov:skip=CKV_AWS_144:what lies here is the copy in another account
  #checkov:skip=CKV_AWS_19:encrypted, each as the policy says, below; not seen through for_each
  #checkov:skip=CKV_AWS_145:AES256 is the policy's choice; the others have KMS
  for_each = local.buckets

  bucket              = each.key
  region              = each.value.region
  object_lock_enabled = each.value.is_locked
  tags                = merge(local.tags, { Use = join(" ", each.value.uses) })
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  rule {
    bucket_key_enabled = each.value.encryption == "aws:kms"

    apply_server_side_encryption_by_default {
      sse_algorithm     = each.value.encryption
      kms_master_key_id = each.value.kms_key == "create" ? aws_kms_key.this[each.value.region].arn : each.value.kms_key
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  region                  = each.value.region
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  for_each = { for bucket, each in local.buckets : bucket => each if each.lock != null }

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  rule {
    default_retention {
      mode = each.value.lock.mode
      days = each.value.lock.days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  #checkov:skip=CKV_AWS_300:the first rule aborts uploads; not seen beside dynamic rules
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  dynamic "rule" {
    for_each = each.value.noncurrent_days[*]

    content {
      id     = "noncurrent"
      status = "Enabled"

      filter {}

      noncurrent_version_expiration {
        noncurrent_days = rule.value
      }

      expiration {
        expired_object_delete_marker = true
      }
    }
  }

  dynamic "rule" {
    for_each = length(each.value.transitions) > 0 ? ["cool"] : []

    content {
      id     = rule.value
      status = "Enabled"

      filter {}

      dynamic "transition" {
        for_each = each.value.transitions

        content {
          days          = transition.value.days
          storage_class = transition.value.storage_class
        }
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region
  policy = each.value.policy

  depends_on = [aws_s3_bucket_public_access_block.this]
}

# Documents of places, as in storage.tf: they stay as they are.
resource "aws_s3_object" "place" {
  for_each = var.asked.places

  region             = each.value.region
  bucket             = each.value.bucket
  key                = each.value.key
  content            = each.value.document
  content_type       = "application/json"
  checksum_algorithm = "SHA256"
  tags               = { for name in ["System", "ManagedBy"] : name => local.tags[name] }

  override_provider {
    default_tags {
      tags = {}
    }
  }

  lifecycle {
    ignore_changes = all
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

# To the system's own inventory bucket of the region.
resource "aws_s3_bucket_inventory" "this" {
  for_each = { for bucket, each in local.buckets : bucket => each if each.inventory != null }

  bucket                   = aws_s3_bucket.this[each.key].id
  region                   = each.value.region
  name                     = var.asked.name
  included_object_versions = "All"
  optional_fields          = each.value.inventory.fields

  schedule {
    frequency = "Daily"
  }

  destination {
    bucket {
      bucket_arn = each.value.inventory.bucket_arn
      account_id = var.asked.system_account
      format     = each.value.inventory.format
      prefix     = each.value.inventory.prefix

      encryption {
        sse_kms {
          key_id = each.value.inventory.kms_key
        }
      }
    }
  }
}

resource "aws_s3_bucket_notification" "this" {
  for_each = { for bucket, each in local.buckets : bucket => each if each.hears_thaws }

  bucket      = aws_s3_bucket.this[each.key].id
  region      = each.value.region
  eventbridge = true
}

# Events of buckets here are on this account's bus: rules forward them to the system's.
resource "aws_cloudwatch_event_rule" "forward" {
  for_each = local.forwards

  region        = each.value.region
  name          = each.value.name
  description   = "To account ${var.asked.system_account}"
  event_pattern = each.value.pattern
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "forward" {
  for_each = local.forwards

  region    = each.value.region
  rule      = aws_cloudwatch_event_rule.forward[each.key].name
  target_id = "system"
  arn       = var.asked.bus
  role_arn  = aws_iam_role.this["forward"].arn

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.undelivered[each.value.region].arn
  }
}

# What could not be forwarded, in the rule's region.
resource "aws_sqs_queue" "undelivered" {
  for_each = local.forward_regions

  region                    = each.key
  name                      = "${var.asked.name}-undelivered"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

resource "aws_sqs_queue_policy" "undelivered" {
  for_each = local.forward_regions

  region    = each.key
  queue_url = aws_sqs_queue.undelivered[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"]
        Resource  = aws_sqs_queue.undelivered[each.key].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "Rules"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.undelivered[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = [for name, rule in aws_cloudwatch_event_rule.forward : rule.arn if local.forwards[name].region == each.key] } }
      },
      {
        Sid       = "LookFromTheSystem" # `sealift events list`, `status` and `doctor`: its own account says who
        Effect    = "Allow"
        Principal = { AWS = "arn:aws:iam::${var.asked.system_account}:root" }
        Action    = ["sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"]
        Resource  = aws_sqs_queue.undelivered[each.key].arn
      },
    ]
  })
}

# Alarms are where their metrics are. The rules above forward them to the system, whose people hear of them.
resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = merge(var.asked.alarms, { for region in local.forward_regions : "${var.asked.name}-undelivered-not-empty-${region}" => {
    name       = "${var.asked.name}-undelivered-not-empty", region = region, namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible"
    statistic  = "Maximum", periods = 1, above = 0
    dimensions = { QueueName = aws_sqs_queue.undelivered[region].name }
    means      = "A rule of ${region}, account ${local.account}, could not forward an event: read the messages of the queue ${var.asked.name}-undelivered there."
  } })

  region              = each.value.region
  alarm_name          = try(each.value.name, each.key)
  alarm_description   = each.value.means
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = 300
  evaluation_periods  = each.value.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  treat_missing_data  = "notBreaching"
  tags                = local.tags
}

# The roles in which rules forward events, and S3 replicates (replication.tf).
locals {
  roles = merge(
    { for role in ["forward"] : role => {
      trust = { Principal = { Service = "events.amazonaws.com" }, Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = "arn:aws:events:*:${local.account}:rule/${var.asked.name}-*" }
      } }
      statements = [{ Sid = "Forward", Effect = "Allow", Action = "events:PutEvents", Resource = var.asked.bus }]
    } if length(local.forwards) > 0 },
    { for role, each in local.replication_roles : role => each if length(local.replicated) > 0 },
  )
}

resource "aws_iam_role" "this" {
  for_each = { for role, each in local.roles : role => each.trust }

  name                 = "${var.asked.name}-${each.key}"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  assume_role_policy   = jsonencode({ Version = "2012-10-17", Statement = [merge({ Effect = "Allow", Action = "sts:AssumeRole" }, each.value)] })
  tags                 = local.tags
}

resource "aws_iam_role_policy" "this" {
  for_each = aws_iam_role.this

  name   = each.key
  role   = each.value.name
  policy = jsonencode({ Version = "2012-10-17", Statement = local.roles[each.key].statements })
}
