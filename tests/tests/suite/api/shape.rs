//! Holds JSON values against the schemas of an OpenAPI description: the part of JSON Schema that ours uses.
//! A keyword that it does not know is an error, so that nothing is passed unseen.

use serde_json::{Map, Value};

/// Checks a value against a schema, or says where it differs. `root` holds what `$ref` points to.
pub fn check(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let schema = schema.as_object().ok_or(format!("{place}: the schema is no object"))?;
    let wrong = |why: String| Err(format!("{place}: {why}"));
    for (keyword, wanted) in schema {
        match keyword.as_str() {
            "$ref" => {
                let name = wanted
                    .as_str()
                    .and_then(|name| name.strip_prefix('#'))
                    .unwrap_or_default();
                let found = root.pointer(name).ok_or(format!("{place}: {wanted} is nowhere"))?;
                check(root, found, value, place)?;
            }
            "type" if !types(wanted).contains(&kind(value)) => return wrong(format!("{} is no {wanted}", kind(value))),
            "required" => {
                let missing = texts(wanted).into_iter().find(|name| value.get(name).is_none());
                if let Some(name) = missing {
                    return wrong(format!("{name} is missing"));
                }
            }
            "properties" => members(root, wanted, value, place)?,
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, item, &format!("{place}[{number}]"))?;
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, member) in value.as_object().into_iter().flatten() {
                    if !known.is_some_and(|known| known.contains_key(name)) {
                        check(root, wanted, member, &format!("{place}.{name}"))?;
                    }
                }
            }
            "enum" if !wanted.as_array().is_some_and(|all| all.contains(value)) => {
                return wrong(format!("{value} is none of {wanted}"));
            }
            "oneOf" | "anyOf" => {
                let all = wanted.as_array().into_iter().flatten();
                if !all.into_iter().any(|one| check(root, one, value, place).is_ok()) {
                    return wrong(format!("{value} is none of {wanted}"));
                }
            }
            "minimum" if value.is_number() && value.as_i64() < wanted.as_i64() => {
                return wrong(format!("{value} is below {wanted}"));
            }
            "uniqueItems" => {
                let all: Vec<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
                if all.iter().collect::<std::collections::BTreeSet<_>>().len() < all.len() {
                    return wrong("it holds the same twice".to_owned());
                }
            }
            "format" if wanted == "date-time" && !is_time(value) => return wrong(format!("{value} is no time")),
            "type" | "enum" | "minimum" | "format" | "description" | "propertyNames" | "title" => {}
            other => return wrong(format!("a schema says {other}, which this check does not know")),
        }
    }
    Ok(())
}

fn members(root: &Value, wanted: &Value, value: &Value, place: &str) -> Result<(), String> {
    let none = Map::new();
    for (name, schema) in wanted.as_object().unwrap_or(&none) {
        if let Some(member) = value.get(name) {
            check(root, schema, member, &format!("{place}.{name}"))?;
        }
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn types(wanted: &Value) -> Vec<&str> {
    match wanted.as_str() {
        Some(one) => vec![one],
        None => texts(wanted),
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn is_time(value: &Value) -> bool {
    value.is_null()
        || value
            .as_str()
            .is_some_and(|text| chrono::DateTime::parse_from_rfc3339(text).is_ok())
}
