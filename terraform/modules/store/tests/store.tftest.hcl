mock_provider "aws" {}

run "table_as_the_gateway_expects_it" {
  command = plan

  assert {
    condition     = aws_dynamodb_table.store.hash_key == "pk" && aws_dynamodb_table.store.range_key == "sk"
    error_message = "The table's keys are pk and sk."
  }

  assert {
    condition = tomap({ for index in aws_dynamodb_table.store.global_secondary_index :
      index.name => join(" ", [index.hash_key, index.range_key, index.projection_type, join(",", sort(coalesce(index.non_key_attributes, toset([]))))])
      }) == tomap({
      by_time     = "day moment KEYS_ONLY "
      by_person   = "person moment KEYS_ONLY "
      by_target   = "target moment KEYS_ONLY "
      by_approval = "approval moment KEYS_ONLY "
      open        = "open lease INCLUDE moment,state"
    })
    error_message = "The indexes, their keys and what they hold are not the agreed ones."
  }

  assert {
    condition = tomap({ for attribute in aws_dynamodb_table.store.attribute : attribute.name => attribute.type }) == tomap({
      for name in ["pk", "sk", "day", "moment", "person", "target", "approval", "open", "lease"] : name => "S"
    })
    error_message = "Each key is a string, and nothing but keys is declared."
  }

  assert {
    condition     = aws_dynamodb_table.store.ttl[0].enabled && aws_dynamodb_table.store.ttl[0].attribute_name == "expires"
    error_message = "Items end at `expires`."
  }

  assert {
    condition     = aws_dynamodb_table.store.billing_mode == "PAY_PER_REQUEST"
    error_message = "Capacity is paid by request."
  }
}

run "safe_by_default" {
  command = plan

  assert {
    condition     = aws_dynamodb_table.store.deletion_protection_enabled
    error_message = "The table is protected from deletion unless it is said otherwise."
  }

  assert {
    condition     = aws_dynamodb_table.store.point_in_time_recovery[0].enabled
    error_message = "The table can be brought back unless it is said otherwise."
  }

  assert {
    condition     = aws_dynamodb_table.store.server_side_encryption[0].enabled
    error_message = "The table is encrypted with KMS."
  }
}

run "what_is_said_holds" {
  command = plan

  variables {
    name                   = "other"
    point_in_time_recovery = false
    deletion_protection    = false
    kms_key_arn            = "arn:aws:kms:eu-central-1:123456789012:key/1"
  }

  assert {
    condition     = output.name == "other" && !aws_dynamodb_table.store.deletion_protection_enabled
    error_message = "Name and deletion protection are those of the variables."
  }

  assert {
    condition     = !aws_dynamodb_table.store.point_in_time_recovery[0].enabled
    error_message = "Point-in-time recovery is that of the variable."
  }

  assert {
    condition     = aws_dynamodb_table.store.server_side_encryption[0].kms_key_arn == "arn:aws:kms:eu-central-1:123456789012:key/1"
    error_message = "The key is that of the variable."
  }
}

run "outputs_name_every_index" {
  command = apply

  assert {
    condition     = output.index_arns["open"] == "${output.arn}/index/open" && length(output.index_arns) == 5
    error_message = "There is an ARN for each of the five indexes."
  }
}

run "bad_values_are_refused" {
  command = plan

  variables {
    name        = "a b"
    kms_key_arn = "alias/mine"
  }

  expect_failures = [var.name, var.kms_key_arn]
}
