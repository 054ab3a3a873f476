# A KMS key in each region that needs one, unless `kms_key_arns` gives one.

locals {
  key_regions = setunion(var.kept_key_regions, setsubtract(
    toset([for use in local.uses : use.region if use.kms_key == "create" && use.account == local.owner]),
    keys(var.kms_key_arns),
  ))
  key_arns = merge({ for region, key in aws_kms_key.this : region => key.arn }, var.kms_key_arns)
}

resource "aws_kms_key" "this" {
  for_each = local.key_regions

  region                  = each.key
  description             = "Sealift ${local.name}: buckets, queues and logs in ${each.key}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          # KMS's own default: IAM decides in this account. Without it a mistake below leaves a key that nobody can mend.
          Sid       = "TheAccountAdministersItsKey"
          Effect    = "Allow"
          Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
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
          if local.buckets[bucket].region == each.key && local.buckets[bucket].kms_key == "create"])) : {
          Sid       = "ReplicateFrom${account}"
          Effect    = "Allow"
          Principal = { AWS = "arn:${local.partition}:iam::${account}:root" }
          Action    = "kms:Encrypt"
          Resource  = "*"
          Condition = {
            StringEquals = { "kms:ViaService" = "s3.${each.key}.${local.dns_suffix}" }
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
        } if each.key == local.region
      ],
      # EventBridge sends no source account to an encrypted topic, and its messages would be lost without a word. What SNS
      # and SQS encrypt for is in their encryption context: our topic, our queues.
      # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
      [
        for service in ["events"] : {
          Sid       = "EventsToQueues"
          Effect    = "Allow"
          Principal = { Service = "${service}.amazonaws.com" }
          Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
          Resource  = "*"
          Condition = { ArnLike = { "kms:EncryptionContext:aws:sqs:arn" = "arn:${local.partition}:sqs:${local.region}:${local.account}:${local.name}-*" } }
        } if each.key == local.region
      ],
      [
        for service in ["events"] : {
          Sid       = "EventsToTopics"
          Effect    = "Allow"
          Principal = { Service = "${service}.amazonaws.com" }
          Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
          Resource  = "*"
          Condition = { ArnLike = { "kms:EncryptionContext:aws:sns:topicArn" = "arn:${local.partition}:sns:${local.region}:${local.account}:${local.name}-*" } }
        } if each.key == local.region
      ],
      [
        for logs in ["logs.${each.key}.${local.dns_suffix}"] : {
          Sid       = "CloudWatchKeepsLogs"
          Effect    = "Allow"
          Principal = { Service = logs }
          Action = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey",
          "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"]
          Resource = "*"
          Condition = { ArnLike = { "kms:EncryptionContext:aws:logs:arn" = [
            for group in ["/aws/lambda/${local.name}-*", "/aws/batch/${local.name}", "/aws/vpc/${local.name}"] :
            "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:${group}"
          ] } }
        } if each.key == local.region
      ],
    )
  })
  tags = local.tags

  # A policy that names a key of yours, or one region less, would end this one, and every copy under it. Such a plan is
  # refused: put the region into kept_key_regions, or bring the copies under another key first.
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "this" {
  for_each = aws_kms_key.this

  region        = each.key
  name          = "alias/${local.name}"
  target_key_id = each.value.key_id
}
