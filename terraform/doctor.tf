# What `sealift doctor` reads, for a role or a group of yours: the output doctor_policy.

locals {
  doctor_statements = [
    {
      Sid    = "ReadSettingsOfBuckets"
      Effect = "Allow"
      Action = ["s3:ListBucket", "s3:GetBucketVersioning", "s3:GetBucketNotification", "s3:GetEncryptionConfiguration",
        "s3:GetBucketObjectLockConfiguration", "s3:GetBucketOwnershipControls", "s3:GetBucketPublicAccessBlock",
      "s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration", "s3:GetInventoryConfiguration"]
      Resource = values(local.bucket_arns)
    },
    {
      Sid    = "ReadNightsAndReports"
      Effect = "Allow"
      Action = ["s3:GetObject"]
      Resource = concat(
        [for name in ["nights/*", "policy.yaml"] : "${local.bucket_arns[local.ledger.bucket]}/${local.ledger.prefix}${name}"],
        [for bucket in values(local.inventory.buckets) : "${local.bucket_arns[bucket]}/${local.inventory.prefix}*/manifest.*"],
      )
    },
    {
      Sid       = "DecryptObjects"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = distinct(concat(local.keys.ledger, local.keys.reports))
      Condition = { StringLike = { "kms:ViaService" = "s3.*.${local.dns_suffix}" } }
    },
    {
      Sid    = "ReadOurSettings"
      Effect = "Allow"
      Action = ["sqs:GetQueueUrl", "sqs:GetQueueAttributes", "events:DescribeRule", "events:ListTargetsByRule",
        "lambda:GetFunctionConfiguration", "lambda:GetFunctionConcurrency", "lambda:GetPolicy", "scheduler:GetSchedule",
      "ecr:DescribeImages", "iam:SimulatePrincipalPolicy"]
      Resource = concat(
        [for place in ["sqs:*:${local.account}:", "events:*:${local.account}:rule/", "lambda:*:${local.account}:function:"] :
        "arn:${local.partition}:${place}${local.name}-*"],
        [for account in local.foreign_accounts : "arn:${local.partition}:sqs:*:${account}:${local.name}-undelivered"],
        ["arn:${local.partition}:scheduler:${local.region}:${local.account}:schedule/${local.name}/*", aws_ecr_repository.this.arn],
        [for path in distinct([var.role_path, "/"]) : "arn:${local.partition}:iam::${local.account}:role${path}${local.name}-*"],
      )
    },
    {
      Sid      = "ReadKeys"
      Effect   = "Allow"
      Action   = ["kms:DescribeKey", "kms:GetKeyPolicy"]
      Resource = distinct(concat(flatten(values(local.keys)), values(local.key_arns)))
    },
    {
      Sid    = "ReadTheAccount"
      Effect = "Allow"
      Action = ["lambda:ListEventSourceMappings", "lambda:GetAccountSettings", "batch:DescribeJobQueues",
        "batch:DescribeComputeEnvironments", "batch:DescribeJobDefinitions", "servicequotas:GetServiceQuota",
      "cloudwatch:GetMetricStatistics"]
      Resource = ["*"] # these offer no resource
    },
  ]
}
