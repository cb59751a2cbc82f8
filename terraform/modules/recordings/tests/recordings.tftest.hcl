mock_provider "aws" {}

variables {
  name = "countersign-recordings"
}

run "private_and_versioned_by_default" {
  command = plan

  assert {
    condition     = aws_s3_bucket_versioning.recordings.versioning_configuration[0].status == "Enabled"
    error_message = "Versions are kept."
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.recordings.block_public_acls,
      aws_s3_bucket_public_access_block.recordings.block_public_policy,
      aws_s3_bucket_public_access_block.recordings.ignore_public_acls,
      aws_s3_bucket_public_access_block.recordings.restrict_public_buckets,
    ])
    error_message = "Nothing is public."
  }

  assert {
    condition     = aws_s3_bucket_ownership_controls.recordings.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "The bucket's owner owns every object."
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.recordings.rule[*].apply_server_side_encryption_by_default[0].sse_algorithm) == "AES256"
    error_message = "Without a key the objects are encrypted with SSE-S3."
  }

  assert {
    condition     = !aws_s3_bucket.recordings.object_lock_enabled && length(aws_s3_bucket_object_lock_configuration.recordings) == 0
    error_message = "Object Lock is off unless it is asked for."
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.recordings[0].rule : rule.id] == ["leftovers"]
    error_message = "Nothing expires unless it is asked for."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.recordings[0].rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 7
    error_message = "Incomplete uploads are dropped after a week."
  }
}

run "locked_with_a_key_of_ones_own" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
    object_lock = { mode = "COMPLIANCE", days = 400 }
  }

  assert {
    condition     = aws_s3_bucket.recordings.object_lock_enabled
    error_message = "Object Lock is there from the bucket's creation on."
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.recordings[0].rule[0].default_retention[0].mode == "COMPLIANCE"
    error_message = "The mode is that of the variable."
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.recordings[0].rule[0].default_retention[0].days == 400
    error_message = "The days are those of the variable."
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.recordings.rule[*].apply_server_side_encryption_by_default[0].sse_algorithm) == "aws:kms"
    error_message = "With a key the objects are encrypted with SSE-KMS."
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.recordings.rule[*].bucket_key_enabled)
    error_message = "A bucket key spares most calls of KMS."
  }

  assert {
    condition     = output.object_lock_days == 400
    error_message = "The output says for how long objects are locked."
  }
}

run "what_shall_expire_does_by_prefix_and_by_tag" {
  command = plan

  variables {
    expiry_days              = { recordings = 400, digests = 4000 }
    expiry_days_by_retention = { short = 30 }
    noncurrent_days          = 3
  }

  assert {
    condition = tomap({ for rule in aws_s3_bucket_lifecycle_configuration.recordings[0].rule :
      rule.id => rule.expiration[0].days if rule.id != "leftovers"
    }) == tomap({ digests = 4000, recordings = 400, retention-short = 30 })
    error_message = "There is a rule for each prefix and each tag with days, and for no other."
  }

  assert {
    condition = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.recordings[0].rule :
      rule.filter[0].prefix == "${rule.id}/" if contains(["recordings", "digests"], rule.id)
    ])
    error_message = "A prefix's rule is about what is under it."
  }

  assert {
    condition = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.recordings[0].rule :
      rule.filter[0].tag[0].key == "retention" && rule.filter[0].tag[0].value == "short" if rule.id == "retention-short"
    ])
    error_message = "A tag's rule is about `retention`."
  }

  assert {
    condition = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.recordings[0].rule :
      rule.noncurrent_version_expiration[0].noncurrent_days == 3 if rule.id != "leftovers"
    ])
    error_message = "What expired is gone after its days as a noncurrent version."
  }
}

run "no_rules_no_lifecycle" {
  command = plan

  variables {
    incomplete_upload_days = null
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.recordings) == 0
    error_message = "A configuration without rules cannot be made."
  }
}

run "plaintext_is_refused" {
  command = apply

  assert {
    condition = anytrue([for statement in jsondecode(aws_s3_bucket_policy.recordings.policy).Statement :
      statement.Effect == "Deny" && statement.Principal == "*" && statement.Action == "s3:*" &&
      try(statement.Condition.Bool["aws:SecureTransport"], "") == "false" &&
      contains(statement.Resource, output.arn) && contains(statement.Resource, "${output.arn}/*")
    ])
    error_message = "The bucket's policy denies everything that does not come through TLS."
  }

  assert {
    condition     = output.object_arns["operations"] == "${output.arn}/operations/*"
    error_message = "The outputs name what is under each prefix."
  }
}

run "bad_values_are_refused" {
  command = plan

  variables {
    name                     = "Upper"
    kms_key_arn              = "1234"
    object_lock              = { mode = "SOFT", days = 0 }
    expiry_days              = { recordings = 0 }
    expiry_days_by_retention = { short = 1.5 }
    noncurrent_days          = 0
    incomplete_upload_days   = 0
  }

  expect_failures = [
    var.name,
    var.kms_key_arn,
    var.object_lock,
    var.expiry_days,
    var.expiry_days_by_retention,
    var.noncurrent_days,
    var.incomplete_upload_days,
  ]
}
