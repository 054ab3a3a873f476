# What `sealift doctor` reads (docs/doctor.md), for a role or a group of yours: the output doctor_policy.

locals {
  doctor_statements = [
    {
      Sid      = "LookAtBuckets"
      Effect   = "Allow"
      Action   = ["s3:ListBucket", "s3:GetBucketVersioning", "s3:GetBucketNotification"]
      Resource = values(local.bucket_arns)
    },
    {
      Sid    = "ReadLedgerAndReports"
      Effect = "Allow"
      Action = ["s3:GetObject"]
      Resource = concat(local.objects.ledger, [for bucket in values(local.inventory.buckets) :
      "${local.bucket_arns[bucket]}/${local.inventory.prefix}*/manifest.*"])
    },
    {
      Sid       = "DecryptObjects"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = distinct(concat(local.keys.ledger, local.keys.reports))
      Condition = { StringLike = { "kms:ViaService" = "s3.*.amazonaws.com" } }
    },
    {
      Sid    = "LookAtTheSystem"
      Effect = "Allow"
      Action = ["sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sns:ListSubscriptionsByTopic", "lambda:GetFunctionConfiguration",
      "ecr:DescribeImages", "iam:SimulatePrincipalPolicy"]
      Resource = concat(
        [for place in ["sqs:*:${local.account}:", "lambda:*:${local.account}:function:", "iam::${local.account}:role${var.role_path}"] : "arn:aws:${place}${local.name}-*"],
        [for account in local.foreign_accounts : "arn:aws:sqs:*:${account}:${local.name}-undelivered"],
        [local.topic_arn, local.repository_arn],
      )
    },
    {
      Sid    = "LookAtTheAccount"
      Effect = "Allow"
      Action = ["lambda:GetAccountSettings", "batch:DescribeJobQueues", "batch:DescribeComputeEnvironments",
      "batch:DescribeJobDefinitions", "servicequotas:GetServiceQuota", "cloudwatch:GetMetricStatistics"]
      Resource = ["*"] # these offer no resource
    },
  ]

  # What `--probe` needs beside it: objects of one name, which it writes at the sources and removes there and at the copies.
  probed = { for kind in ["source", "copy"] : kind => [for arn in local.objects[kind] : "${trimsuffix(arn, "*")}sealift-doctor-*"] }
  probe_statements = concat([
    {
      Sid      = "WriteProbes"
      Effect   = "Allow"
      Action   = ["s3:PutObject"]
      Resource = local.probed.source
    },
    {
      Sid      = "ReadCopies"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = local.probed.copy
    },
    {
      Sid      = "RemoveProbes"
      Effect   = "Allow"
      Action   = ["s3:DeleteObjectVersion"]
      Resource = concat(local.probed.source, local.probed.copy)
    },
    ], [for arns in [distinct(concat(local.keys.source, local.keys.copy))] : {
      Sid       = "EncryptProbes"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = arns
      Condition = { StringLike = { "kms:ViaService" = "s3.*.amazonaws.com" } }
  } if length(arns) > 0])
}
