output "environment" {
  description = "SEALIFT_* variables for the command line."
  value       = merge(local.environment, { AWS_REGION = local.region })
}

output "shell" {
  description = "The same as lines of a shell: `terraform output -raw shell > sealift.env`."
  value = join("", [for name, value in merge(local.environment, { AWS_REGION = local.region }) :
  "${name}='${replace(value, "'", "'\\''")}'\n"])
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
  value       = merge({ for name, queue in aws_sqs_queue.this : name => queue.url }, { objects-dead = aws_sqs_queue.dead.url })
}

output "job_queues" {
  description = "Batch job queues: workers, and orchestrators (nights and backfills, which wait for workers)."
  value       = local.queue_names
}

output "job_definitions" {
  description = "Batch job definitions by job: name."
  value       = local.job_names
}

output "roles" {
  description = "Roles of functions and jobs: ARN."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "other_accounts" {
  description = "For each other account of the policy: what modules/other-account makes there, from the file that `terraform output -json other_accounts` prints or in the same root."
  value       = local.other_accounts

  # S3 refuses a rule that replicates to a bucket which is not there, keeps no versions or does not let it in
  depends_on = [aws_s3_bucket_versioning.this, aws_s3_bucket_policy.this]
}

output "keys" {
  description = "The KMS keys made here, by region: ARN. What lies under one is lost with it."
  value       = local.made_key_arns
}

output "topic" {
  description = "The SNS topic of alarms and of runs that ended."
  value       = local.topic_arn
}

output "s3_endpoint_policy" {
  description = "For the S3 endpoint of subnets that you give (subnet_ids): the policy that endpoints made here have."
  value       = jsonencode(local.s3_endpoint_policy)
}

output "doctor_policy" {
  description = "For the role of who runs `sealift doctor`: what it reads."
  value       = jsonencode({ Version = "2012-10-17", Statement = local.doctor_statements })
}

output "probe_policy" {
  description = "What `sealift doctor --probe` needs beside doctor_policy: to write and remove objects called sealift-doctor-*."
  value       = jsonencode({ Version = "2012-10-17", Statement = local.probe_statements })
}
