locals {
  # What an index holds beside the keys is read from the table: an index is for lists and never decides.
  indexes = {
    by_time     = { hash = "day", range = "moment", kept = [] }
    by_person   = { hash = "person", range = "moment", kept = [] }
    by_target   = { hash = "target", range = "moment", kept = [] }
    by_approval = { hash = "approval", range = "moment", kept = [] }
    open        = { hash = "open", range = "lease", kept = ["moment", "state"] }
  }

  key_attributes = toset(concat(
    ["pk", "sk"],
    [for index in local.indexes : index.hash],
    [for index in local.indexes : index.range],
  ))
}

resource "aws_dynamodb_table" "store" {
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  dynamic "attribute" {
    for_each = local.key_attributes
    content {
      name = attribute.value
      type = "S"
    }
  }

  dynamic "global_secondary_index" {
    for_each = local.indexes
    content {
      name               = global_secondary_index.key
      hash_key           = global_secondary_index.value.hash
      range_key          = global_secondary_index.value.range
      projection_type    = length(global_secondary_index.value.kept) > 0 ? "INCLUDE" : "KEYS_ONLY"
      non_key_attributes = length(global_secondary_index.value.kept) > 0 ? global_secondary_index.value.kept : null
    }
  }

  ttl {
    attribute_name = "expires"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = var.kms_key_arn
  }
}
