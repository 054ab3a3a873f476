# What is refused before anything is made. tests/policies has more policies with one mistake each.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }
}

variables {
  policy_file   = "examples/minimal/policy.yaml"
  image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/parcels@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  lambda_object = { bucket = "example-packages", key = "sealift/lambda-arm64.zip" }
}

run "a_pair_to_itself" {
  command = plan

  variables {
    policy_file = "tests/policies/itself.yaml"
  }

  expect_failures = [terraform_data.policy]
}

run "two_pairs_in_one_place" {
  command = plan

  variables {
    policy_file = "tests/policies/overlap.yaml"
  }

  expect_failures = [terraform_data.policy]
}

run "a_far_copy_without_a_key" {
  command = plan

  variables {
    policy_file = "tests/policies/no-key-across-regions.yaml"
  }

  expect_failures = [terraform_data.policy]
}

run "an_image_by_tag" {
  command = plan

  variables {
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/parcels:latest"
  }

  expect_failures = [var.image]
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

run "subnets_without_security_groups" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a1b2c3d4e5f60718"]
  }

  expect_failures = [var.security_group_ids]
}

run "a_way_out_of_a_network_that_has_none" {
  command = plan

  variables {
    workers_reach_internet = true
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
