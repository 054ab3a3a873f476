# What is refused before anything is made.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012", arn = "arn:aws:iam::123456789012:root" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }

  mock_data "aws_subnet" {
    defaults = { map_public_ip_on_launch = true }
  }
}

variables {
  policy_file   = "examples/minimal/policy.json"
  image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sealift@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  lambda_object = { bucket = "example-packages", key = "sealift/lambda-arm64.zip", version = "3HL4kqtJvjVBH40Nrjfkd" }
}

run "a_policy_that_was_changed_since" {
  command = plan

  variables {
    policy_file = "tests/stale/policy.json"
  }

  expect_failures = [aws_s3_object.policy]
}

run "a_policy_that_nobody_has_checked" {
  command = plan

  variables {
    policy_file = "examples/minimal/policy.yaml"
  }

  expect_failures = [var.policy_file]
}

run "an_image_by_tag" {
  command = plan

  variables {
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sealift:latest"
  }

  expect_failures = [var.image]
}

run "an_image_of_another_registry" {
  command = plan

  variables {
    image = "public.ecr.aws/example/sealift@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  expect_failures = [aws_batch_job_definition.this]
}

run "no_package" {
  command = plan

  variables {
    lambda_object = null
    lambda_zip    = "no/such/package.zip"
  }

  expect_failures = [aws_lambda_function.this]
}

run "a_package_twice" {
  command = plan

  variables {
    lambda_zip = "versions.tf"
  }

  expect_failures = [var.lambda_object]
}

run "a_package_without_version_or_hash" {
  command = plan

  variables {
    lambda_object = { bucket = "example-packages", key = "sealift/lambda-arm64.zip" }
  }

  expect_failures = [var.lambda_object]
}

run "subnets_without_security_groups" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a1b2c3d4e5f60718"]
  }

  expect_failures = [var.security_group_ids]
}

run "public_subnets_without_addresses" {
  command = plan

  variables {
    subnet_ids         = ["subnet-0a1b2c3d4e5f60718"]
    security_group_ids = ["sg-0a1b2c3d4e5f60718"]
  }

  expect_failures = [aws_batch_compute_environment.this]
}

run "an_address_in_the_network_that_is_made" {
  command = plan

  variables {
    assign_public_ip = true
  }

  expect_failures = [var.workers_reach_internet]
}

run "a_key_of_another_region" {
  command = plan

  variables {
    kms_key_arns = { eu-central-1 = "arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d-4e5f-6789-abcd-ef0123456789" }
  }

  expect_failures = [var.kms_key_arns]
}

run "restores_to_a_uri" {
  command = plan

  variables {
    restore_to = ["s3://example-restored/"]
  }

  expect_failures = [var.restore_to]
}

run "a_retention_that_cloudwatch_does_not_know" {
  command = plan

  variables {
    log_retention_days = 100
  }

  expect_failures = [var.log_retention_days]
}
