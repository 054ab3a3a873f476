output "environment" {
  description = "SEALIFT_* variables for the command line."
  value       = merge(local.environment, { AWS_REGION = local.region })
}

output "shell" {
  description = "The same as lines of a shell: `terraform output -raw shell > sealift.env`."
  value = join("", [for name, value in merge(local.environment, { AWS_REGION = local.region }) :
  "${name}='${replace(value, "'", "'\\''")}'\n"])
}

output "repository" {
  description = "Where the image is pushed to: `make image-push REPOSITORY=…`."
  value       = aws_ecr_repository.this.repository_url
}

output "ledger" {
  description = "The ledger's URI."
  value       = local.ledger_uri
}

output "policy" {
  description = "The URI of the policy file that functions and workers read."
  value       = local.policy_uri
}

output "buckets" {
  description = "The buckets made here, by name: region, uses, KMS key."
  value       = { for bucket, each in local.buckets : bucket => { region = each.region, uses = each.uses, kms_key = local.bucket_keys[bucket] } }
}

output "queues" {
  description = "SQS queues by name: URL."
  value = merge({ for name, queue in aws_sqs_queue.this : name => queue.url }, { for name, queue in aws_sqs_queue.dead : name => queue.url },
  { for region, queue in aws_sqs_queue.far : "undelivered-${region}" => queue.url })
}

output "job_queues" {
  description = "Batch job queues: spot, on_demand, orchestrators (nights and backfills, which wait for the others)."
  value       = local.queue_names
}

output "job_definitions" {
  description = "Batch job definitions by job: name."
  value       = local.job_names
}

output "functions" {
  description = "Lambda functions by name: ARN."
  value       = { for name, function in aws_lambda_function.this : name => function.arn }
}

output "roles" {
  description = "Roles of functions and jobs: ARN."
  value = merge({ for name, role in aws_iam_role.function : name => role.arn }, { for name, role in aws_iam_role.job : name => role.arn },
  { for name, role in aws_iam_role.replication : name => role.arn }, { for name, role in aws_iam_role.batch_replication : "batch_${name}" => role.arn })
}

output "other_accounts" {
  description = "For each other account of the policy: what modules/other-account makes there, from the file that `terraform output -json other_accounts` prints or in the same root."
  value       = local.other_accounts

  # S3 refuses a rule that replicates to a bucket which is not there, keeps no versions or does not let it in
  depends_on = [aws_s3_bucket_versioning.this, aws_s3_bucket_policy.this]
}

output "topic" {
  description = "The SNS topic of alarms and of runs that ended."
  value       = local.topic_arn
}

output "dashboard" {
  description = "Where to look in the morning."
  value       = "https://${local.region}.console.${local.partition == "aws" ? "aws.amazon.com" : "amazonaws.cn"}/cloudwatch/home?region=${local.region}#dashboards/dashboard/${local.name}"
}

output "s3_endpoint_policy" {
  description = "For the S3 endpoint of subnets that you give (subnet_ids): the policy that endpoints made here have."
  value       = jsonencode(local.s3_endpoint_policy)
}

output "athena_workgroup" {
  description = "The Athena workgroup with the named queries."
  value       = aws_athena_workgroup.this.name
}

output "doctor_policy" {
  description = "For the role of who runs `sealift doctor`: what it reads."
  value       = jsonencode({ Version = "2012-10-17", Statement = local.doctor_statements })
}
