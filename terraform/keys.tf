# A KMS key in each region that needs one, unless `kms_key_arns` gives one.

locals {
  key_regions = setunion(var.kept_key_regions, setsubtract(
    toset([for use in local.uses : use.region if use.kms_key == "create" && use.account == local.owner]),
    keys(var.kms_key_arns),
  ))
  made_key_arns = { for region, key in merge(aws_kms_key.this, aws_kms_key.disposable) : region => key.arn }
  key_arns      = merge(local.made_key_arns, var.kms_key_arns)

  key_policies = { for region in local.key_regions : region => jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          # KMS's own default: IAM decides in this account. Without it a mistake below leaves a key that nobody can mend.
          Sid       = "TheAccountAdministersItsKey"
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::${local.account}:root" }
          Action    = "kms:*"
          Resource  = "*" # in a key's policy: this key
        },
        {
          Sid       = "S3Delivers" # inventory reports to buckets, notifications to the queue
          Effect    = "Allow"
          Principal = { Service = "s3.amazonaws.com" }
          Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
          Resource  = "*"
          Condition = { StringEquals = { "aws:SourceAccount" = local.delivering_accounts } }
        },
      ],
      [
        for account in distinct(flatten([for bucket, accounts in local.replicator_accounts : accounts
          if local.buckets[bucket].region == region && local.buckets[bucket].kms_key == "create"])) : {
          Sid       = "ReplicateFrom${account}"
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::${account}:root" }
          Action    = "kms:Encrypt"
          Resource  = "*"
          Condition = {
            StringEquals = { "kms:ViaService" = "s3.${region}.amazonaws.com" }
            ArnLike      = { "aws:PrincipalArn" = local.replicators[account] }
          }
        }
      ],
      [
        for service in ["cloudwatch", "budgets"] : {
          Sid       = "${title(service)}Publishes" # to the topic
          Effect    = "Allow"
          Principal = { Service = "${service}.amazonaws.com" }
          Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
          Resource  = "*"
          Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
        } if region == local.region
      ],
      # EventBridge sends no source account to an encrypted queue or topic, and its messages would be lost without a word. What
      # SNS and SQS encrypt for is in their encryption context: our topic, our queues.
      # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
      [
        for sid, context in {
          EventsToQueues = { "kms:EncryptionContext:aws:sqs:arn" = "arn:aws:sqs:${local.region}:${local.account}:${local.name}-*" }
          EventsToTopics = { "kms:EncryptionContext:aws:sns:topicArn" = "arn:aws:sns:${local.region}:${local.account}:${local.name}-*" }
          } : {
          Sid       = sid
          Effect    = "Allow"
          Principal = { Service = "events.amazonaws.com" }
          Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
          Resource  = "*"
          Condition = { ArnLike = context }
        } if region == local.region
      ],
      [
        for logs in ["logs.${region}.amazonaws.com"] : {
          Sid       = "CloudWatchKeepsLogs"
          Effect    = "Allow"
          Principal = { Service = logs }
          Action = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey",
          "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"]
          Resource  = "*"
          Condition = { ArnEquals = { "kms:EncryptionContext:aws:logs:arn" = "arn:aws:logs:${region}:${local.account}:log-group:${local.log_group}" } }
        } if region == local.region
      ],
    )
  }) }
  log_group = "/sealift/${local.name}"
}

resource "aws_kms_key" "this" {
  for_each = var.disposable ? [] : local.key_regions

  region                  = each.key
  description             = "Sealift ${local.name}: buckets, queues and logs in ${each.key}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = local.key_policies[each.key]
  tags                    = local.tags

  # A policy that names a key of yours, or one region less, would end this one, and every copy under it. Such a plan is
  # refused: put the region into kept_key_regions, or bring the copies under another key first.
  lifecycle {
    prevent_destroy = true
  }
}

# Terraform takes no variable in prevent_destroy.
resource "aws_kms_key" "disposable" {
  for_each = var.disposable ? local.key_regions : []

  region                  = each.key
  description             = "Sealift ${local.name}: buckets, queues and logs in ${each.key}"
  enable_key_rotation     = true
  deletion_window_in_days = 7
  policy                  = local.key_policies[each.key]
  tags                    = local.tags
}

# What functions and jobs say; the ledger keeps what was done. Its streams are called after function or job.
resource "aws_cloudwatch_log_group" "this" {
  region            = local.region
  name              = local.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = local.key_arns[local.region]
  tags              = local.tags
}
